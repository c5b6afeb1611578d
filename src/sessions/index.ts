/** The session domain: what a session is, how it changes and who may see what when. Knows no transport and no vendor. */
export * from './api.js';
export * from './errors.js';
export * from './events.js';
export * from './ports.js';
export * from './session.js';
export * from './policy.js';
