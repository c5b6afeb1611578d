/** Who owns which session, commands in, events out. */
export { LocalCluster } from './local.js';
