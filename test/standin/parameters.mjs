// Parameters as Twilio reads them: ordered pairs of decoded names and values, repeated names kept.

// Decodes one escaped piece; bad UTF-8 becomes U+FFFD as on the real wire, bad escapes stay as they are.
function decodePiece(piece) {
  if (piece.includes('+')) piece = piece.replaceAll('+', ' ');
  if (!piece.includes('%')) return piece;
  try {
    return decodeURIComponent(piece);
  } catch {
    const bytes = piece.replace(/%([0-9a-fA-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    return Buffer.from(bytes, 'latin1').toString('utf8');
  }
}

// Splits a form body or a query string into pairs.
export function decodePairs(text) {
  const pairs = [];
  if (text === '') return pairs;
  for (const part of text.split('&')) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    if (equals < 0) pairs.push([decodePiece(part), '']);
    else pairs.push([decodePiece(part.slice(0, equals)), decodePiece(part.slice(equals + 1))]);
  }
  return pairs;
}

// Returns the first value of a name, or undefined.
export function first(pairs, name) {
  for (const pair of pairs) if (pair[0] === name) return pair[1];
  return undefined;
}

// Returns all values of a name, in their order.
export function all(pairs, name) {
  const values = [];
  for (const pair of pairs) if (pair[0] === name) values.push(pair[1]);
  return values;
}

export function encodePairs(pairs) {
  return pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join('&');
}
