// An upstream that takes every message at once and writes down when it came: node arrivals.mjs DIR PORT FILE
// One line per request in FILE: nanoseconds of CLOCK_MONOTONIC. DIR holds the certificates of bench/upstream.
import fs from 'node:fs';
import http2 from 'node:http2';

const [dir, port, file] = process.argv.slice(2);
const out = fs.openSync(file, 'w');
let count = 0;

http2
  .createSecureServer({ key: fs.readFileSync(`${dir}/server.key`), cert: fs.readFileSync(`${dir}/server.pem`), allowHTTP1: true }, (request, answer) => {
    if (request.method === 'POST') fs.writeSync(out, `${process.hrtime.bigint()}\n`);
    request.resume();
    request.on('end', () => {
      const sid = `SM${String(++count).padStart(32, '0')}`;
      answer.writeHead(201, { 'content-type': 'application/json' });
      answer.end(JSON.stringify({ sid, status: 'queued', num_segments: '1', num_media: '0', error_code: null, price: null }));
    });
  })
  .listen(Number(port), '127.0.0.1');
