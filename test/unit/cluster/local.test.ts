import { describe } from 'vitest';
import { LocalCluster, LocalWire } from '../../../src/cluster/index.js';
import { describeCluster } from '../../support/cluster-contract.js';

describe('LocalCluster', () => {
  let wire: LocalWire;
  describeCluster({ begin: async () => void (wire = new LocalWire()), open: () => new LocalCluster(wire) });
});
