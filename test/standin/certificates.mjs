// The test certificate authority and the certificate for Twilio's host names.
//
// Everything is made with the openssl command line and kept in one directory, so that a stand-in started
// again in the same directory is trusted by clients that still hold its ca.pem.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const REGIONS = ['us1', 'us2', 'ie1', 'au1', 'br1', 'de1', 'jp1', 'sg1'];
const EDGES = ['ashburn', 'dublin', 'frankfurt', 'sao-paulo', 'singapore', 'sydney', 'tokyo', 'umatilla', 'roaming'];

// Lists the names the certificate covers: a wildcard stands for one label only, so each edge and region needs its own.
function twilioNames() {
  const names = ['api.twilio.com', '*.twilio.com'];
  for (const region of REGIONS) {
    names.push(`*.${region}.twilio.com`);
    for (const edge of EDGES) names.push(`*.${edge}.${region}.twilio.com`);
  }
  return names;
}

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function makeAuthority(dir) {
  const config = join(dir, 'ca.cnf');
  writeFileSync(config, [
    '[req]', 'distinguished_name = name', 'x509_extensions = authority', 'prompt = no',
    '[name]', 'CN = pg_twilio test authority',
    '[authority]', 'basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign, cRLSign',
    'subjectKeyIdentifier = hash', ''].join('\n'));
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '3650',
    '-config', config, '-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.pem'));
}

function makeLeaf(dir, names) {
  const request = join(dir, 'twilio.csr');
  const extensions = join(dir, 'twilio.ext');
  writeFileSync(extensions, [
    'basicConstraints = CA:FALSE', 'keyUsage = critical, digitalSignature', 'extendedKeyUsage = serverAuth',
    `subjectAltName = ${names.map((name) => `DNS:${name}`).join(',')}`, ''].join('\n'));
  openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
    '-subj', `/CN=${names[0]}`, '-keyout', join(dir, 'twilio.key'), '-out', request);
  openssl('x509', '-req', '-in', request, '-CA', join(dir, 'ca.pem'), '-CAkey', join(dir, 'ca.key'),
    '-set_serial', `0x${Date.now().toString(16)}`, '-days', '3650', '-extfile', extensions, '-out', join(dir, 'twilio.pem'));
}

// Returns the key and certificate to serve; `servedName` replaces Twilio's names, to test that clients refuse it.
export function certificates(dir, servedName) {
  if (!existsSync(join(dir, 'ca.pem')) || !existsSync(join(dir, 'ca.key'))) makeAuthority(dir);
  makeLeaf(dir, servedName ? [servedName] : twilioNames());
  return {
    authority: join(dir, 'ca.pem'),
    key: readFileSync(join(dir, 'twilio.key')),
    cert: readFileSync(join(dir, 'twilio.pem')),
  };
}
