/** `tsx test/support/slow-service.ts`: a service that paints half as fast as it plays, for tests in other languages. Prints its address; ends when its input does. */
import { startPaintingServer } from './painting-server.js';

const server = await startPaintingServer({}, {}, undefined, undefined, 'all', 250);
console.log(server.url);
process.stdin.resume().once('end', () => void server.close().then(() => process.exit()));
