/** The session domain: what a session is, how it changes and who may see what when. Knows no transport and no vendor. */
export * from './sessions.js';
export { systemClock } from './clock.js';
export * from './errors.js';
export * from './events.js';
export { DamagedError } from './stored/checksum.js';
export { readWhole } from './stored/whole.js';
export { keysOf, pageCursorOf, SESSIONS, STORE_PREFIXES } from './stored/keys.js';
export * from './policy.js';
export * from './ports.js';
export { SessionService } from './service.js';
export * from './session.js';
export { LIMITS } from './validation.js';
export type { Finding } from './stored/findings.js';
export { Checker, type SessionReport } from './stored/fsck.js';
export { exportParts, type ExportParts } from './live/exporting.js';
export { InProcessJobs } from './live/jobs.js';
export { type Rehearsal, rehearse } from './live/rehearsal.js';
export { encoderOf } from './live/required-model.js';
