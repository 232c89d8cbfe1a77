// How many segments an SMS takes: 160 characters of GSM-7 or 70 of UCS-2 alone, 153 or 67 each when there are several.

const BASIC = new Set(
  '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
);
const EXTENDED = new Set('\f^{}\\[~]|€');

// Cuts units of the given sizes into parts; a character that takes two units is never split.
function parts(sizes, alone, joined) {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total <= alone) return total === 0 ? 0 : 1;
  let count = 1;
  let used = 0;
  for (const size of sizes) {
    if (used + size > joined) {
      count += 1;
      used = 0;
    }
    used += size;
  }
  return count;
}

export function segments(text) {
  const characters = [...text];
  const gsm = characters.every((one) => BASIC.has(one) || EXTENDED.has(one));
  const sizes = characters.map((one) => (gsm ? (EXTENDED.has(one) ? 2 : 1) : one.length));
  return {
    encoding: gsm ? 'GSM-7' : 'UCS-2',
    units: sizes.reduce((sum, size) => sum + size, 0),
    segments: gsm ? parts(sizes, 160, 153) : parts(sizes, 70, 67),
    // What makes the message more expensive, if something does.
    culprit: gsm ? null : characters.find((one) => !BASIC.has(one) && !EXTENDED.has(one)),
  };
}
