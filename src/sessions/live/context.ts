import type { Capacity } from './capacity.js';
import type { Line } from './line.js';
import type { Logger, SessionPolicy } from '../policy.js';
import type { Clock, Cluster, Engine, MediaFactory } from '../ports.js';
import type { Watching } from './watching.js';
import type { Vault } from '../stored/vault.js';

/** What every session of a server shares. */
export interface Context {
  engine: Engine;
  media: MediaFactory;
  vault: Vault;
  cluster: Cluster;
  clock: Clock;
  logger: Logger;
  policy: SessionPolicy;
  capacity: Capacity;
  watching: Watching;
  line: Line;
}
