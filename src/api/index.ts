/** The GraphQL schema over the session domain. Maps between the two and decides nothing. */
export type { ApiContext, ClientTokenIssuer, MediaReader, ServiceFacts, SubscriberGate } from './context.js';
export type { Link, MediaLinks } from './links.js';
export type { FieldWeight, ListSize } from './paging.js';
export { withoutPaths } from './redact.js';
export { scopeOfOperation } from './scopes.js';
export { printContract, schema } from './schema.js';
