// A chart of messages per second: for each way to send a group of bars, pg_twilio's above those of the others.
import { shown } from './figures.mjs';

const COLOURS = ['#0b7285', '#868e96', '#ced4da', '#e8590c', '#f08c00'];

export function chart(groups) {
  const bars = groups.flatMap(({ title, bars: all }, group) =>
    all.map(([what, value], i) => ({ title: i === 0 ? title : '', what, value, colour: COLOURS[i], group })),
  );
  const most = Math.max(...bars.map(({ value }) => value));
  const rows = bars.map(({ title, what, value, colour, group }, i) => {
    const y = 30 + i * 20 + group * 16;
    const width = Math.round((value / most) * 360);
    return `<text x="310" y="${y + 12}" text-anchor="end">${title}</text><rect x="320" y="${y}" width="${width}" height="16" fill="${colour}"/><text x="${326 + width}" y="${y + 12}">${shown(value)} ${what}</text>`;
  });
  const height = 40 + bars.length * 20 + groups.length * 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="860" height="${height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/><text x="10" y="18" font-weight="bold">Messages per second, from commit to recorded result</text>${rows.join('')}</svg>\n`;
}
