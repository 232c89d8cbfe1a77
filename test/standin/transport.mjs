// HTTPS for Twilio's hosts: TLS, HTTP/2 or HTTP/1.1 as ALPN decides, keep-alive.
//
// Both protocols end in the same small object, an Exchange: one complete request and the ways to answer it,
// the dishonest ones (cut, truncate) included. Nothing here knows Twilio.

import http from 'node:http';
import http2 from 'node:http2';
import tls from 'node:tls';

const MAX_REQUEST_BODY = 1 << 20;

// Clients under test cancel many streams and ask for huge bodies; neither may end their connection.
const HTTP2 = { settings: { maxConcurrentStreams: 100 }, streamResetBurst: 1_000_000, streamResetRate: 1_000_000, maxSessionMemory: 1000, maxSessionRejectedStreams: 1_000_000 };

class Http1Exchange {
  constructor(request, response, body) {
    this.method = request.method;
    this.target = request.url;
    this.host = request.headers.host ?? '';
    this.headers = request.headers;
    this.body = body;
    this.http = '1.1';
    this.response = response;
  }

  onClose(then) { this.response.on('close', then); }

  respond(status, headers, body) {
    if (this.response.destroyed) return;
    headers['content-length'] = Buffer.byteLength(body);
    this.response.writeHead(status, headers);
    this.response.end(body);
  }

  // Promises the whole body, sends a part of it and breaks the connection.
  truncate(status, headers, body, keep) {
    headers['content-length'] = Buffer.byteLength(body);
    this.response.writeHead(status, headers);
    this.response.write(body.slice(0, keep), () => this.cut());
  }

  // Answers and lets the connection go.
  respondAndClose(status, headers, body) {
    headers.connection = 'close';
    this.respond(status, headers, body);
  }

  cut() { this.response.socket?.destroy(); }
}

class Http2Exchange {
  constructor(stream, headers, body) {
    this.method = headers[':method'];
    this.target = headers[':path'];
    this.host = headers[':authority'] ?? headers.host ?? '';
    this.headers = headers;
    this.body = body;
    this.http = '2';
    this.stream = stream;
  }

  onClose(then) { this.stream.on('close', then); }

  respond(status, headers, body) {
    if (this.stream.destroyed || this.stream.closed) return;
    headers[':status'] = status;
    headers['content-length'] = Buffer.byteLength(body);
    this.stream.respond(headers);
    this.stream.end(body);
  }

  truncate(status, headers, body, keep) {
    if (this.stream.destroyed) return;
    headers[':status'] = status;
    headers['content-length'] = Buffer.byteLength(body);
    this.stream.respond(headers);
    this.stream.write(body.slice(0, keep), () => this.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  }

  respondAndClose(status, headers, body) {
    this.respond(status, headers, body);
    this.stream.session?.close();
  }

  // Breaks the whole connection, as a crashing front end would: the other streams on it are lost too, unless only
  // this one is meant.
  cut(onlyStream = false) {
    if (onlyStream) this.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    else this.stream.session?.destroy();
  }
}

// Collects a request body, then calls `then` with it; a body beyond the limit breaks the connection. A stream of HTTP/2
// "ends" also when its connection breaks; what had not arrived whole by then is closed already, and never was a request.
function collect(stream, then) {
  let chunks = null;
  let size = 0;
  let first = null;
  stream.on('data', (chunk) => {
    size += chunk.length;
    if (size > MAX_REQUEST_BODY) return stream.destroy();
    if (first === null) first = chunk;
    else (chunks ??= [first]).push(chunk);
  });
  stream.on('end', () => {
    if (size > MAX_REQUEST_BODY || stream.closed) return;
    then(first === null ? '' : (chunks ? Buffer.concat(chunks) : first).toString('utf8'));
  });
  stream.on('error', () => {});
}

// A TLS listener that calls `handle(exchange)` for each complete request.
export class Transport {
  constructor({ key, cert, http1Only, handle }) {
    this.connections = new Set();
    this.opened = 0;
    this.http1 = http.createServer({ keepAlive: true, requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
      response.on('error', () => {});
      collect(request, (body) => handle(new Http1Exchange(request, response, body)));
    });
    this.http1.keepAliveTimeout = 0;
    this.http1.timeout = 0;
    this.http2 = http2.createServer(HTTP2);
    this.http2.on('sessionError', () => {});
    this.http2.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      collect(stream, (body) => handle(new Http2Exchange(stream, headers, body)));
    });
    this.server = tls.createServer({ key, cert, minVersion: 'TLSv1.2', ALPNProtocols: http1Only ? ['http/1.1'] : ['h2', 'http/1.1'] });
    this.server.on('secureConnection', (socket) => this.accept(socket));
    this.server.on('tlsClientError', () => {});
    this.server.on('connection', (socket) => {
      this.connections.add(socket);
      socket.on('close', () => this.connections.delete(socket));
    });
  }

  // Hands a connection to the protocol that was agreed on.
  accept(socket) {
    this.opened += 1;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    if (socket.alpnProtocol !== 'h2') return this.http1.emit('connection', socket);
    return this.http2.emit('connection', socket);
  }

  listen(port) {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ port, host: '127.0.0.1', backlog: 1024 }, () => {
        this.server.off('error', reject);
        this.port = this.server.address().port;
        resolve(this.port);
      });
    });
  }

  // Breaks every open connection.
  cutAll() { for (const socket of this.connections) socket.destroy(); }

  // Stops listening, so that new connections are refused, and breaks the open ones.
  async close() {
    if (!this.server.listening) return;
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.cutAll();
    await closed;
  }
}
