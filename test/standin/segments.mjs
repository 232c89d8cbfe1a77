// Counts the segments of an SMS: GSM 03.38 text in parts of 160 or 153, all else in UTF-16 parts of 70 or 67.

const BASIC = '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';
const EXTENSION = '\f^{}\\[~]|€';
const PLAIN = /^[A-Za-z0-9 @!"#$%&'()*+,./:;<=>?_\n\r-]*$/;

const cost = new Map([...BASIC].map((sign) => [sign, 1]));
for (const sign of EXTENSION) cost.set(sign, 2);

// Packs signs into parts; a sign of two units never straddles a part.
function parts(signs, units, size) {
  let count = 1;
  let used = 0;
  for (const sign of signs) {
    const width = units(sign);
    if (used + width > size) {
      count += 1;
      used = 0;
    }
    used += width;
  }
  return count;
}

function pack(signs, units, single, each) {
  return parts(signs, units, single) === 1 ? 1 : parts(signs, units, each);
}

export function segmentCount(body) {
  if (body.length <= 160 && PLAIN.test(body)) return 1;
  const signs = [...body];
  if (signs.every((sign) => cost.has(sign))) return pack(signs, (sign) => cost.get(sign), 160, 153);
  return pack(signs, (sign) => sign.length, 70, 67);
}
