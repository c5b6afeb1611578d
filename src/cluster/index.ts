export { LocalCluster, LocalWire } from './local.js';
export { LocalMeter, ValkeyMeter } from './meter.js';
export { ValkeyCluster, type ValkeyOptions } from './valkey/cluster.js';
export { BullJobs, type BullJobsOptions } from './valkey/bull-jobs.js';
