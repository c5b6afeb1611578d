/**
 * `tsx test/support/toy-service.ts STORE PORT [TOKEN]`: the service with the toy package, for tests in other languages. Prints its
 * address; ends, by force, when its input does.
 */
import { ServiceProcess } from './service-process.js';

const [store = '', port = '0', token] = process.argv.slice(2);
const settings = { IDLE_SECONDS: 0, LEASE_SECONDS: 3, PORT: port, ...(token !== undefined && { TOKEN: token }) };
const service = await ServiceProcess.start({ store: `file://${store}`, settings });
console.log(service.url);
process.stdin.resume().once('end', () => void service.stop().then(() => process.exit()));
