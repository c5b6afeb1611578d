export { directoryOf, openStore, type StoreOptions } from './open-store.js';
export { probe } from './probe.js';
