// One running stand-in: the listener for Twilio's hosts and the control API, started together.

import { certificates } from './certificates.mjs';
import { controlServer } from './control.mjs';
import { Transport } from './transport.mjs';
import { World } from './world.mjs';

// Starts a stand-in and returns {port, control, ca, stop}.
export async function startStandin({ dir, port = 0, controlPort = 0, http1Only = false, validate = true, callbackTo, servedName }) {
  const world = new World({ validate, callbackTo });
  const { authority, key, cert } = certificates(dir, servedName);
  const transport = new Transport({ key, cert, http1Only, handle: (exchange) => world.front.handle(exchange) });
  await transport.listen(port);
  const control = controlServer(world, transport);
  await new Promise((resolve, reject) => {
    control.once('error', reject);
    control.listen(controlPort, '127.0.0.1', resolve);
  });
  return {
    port: transport.port,
    control: control.address().port,
    ca: authority,
    world,
    async stop() {
      control.closeAllConnections();
      control.close();
      await transport.close();
    },
  };
}
