import { SCOPE_OF, type Scope } from '../sessions/index.js';

const NAMED_OTHERWISE = {
  node: SCOPE_OF.session,
  nodes: SCOPE_OF.session,
  artifact: SCOPE_OF.session,
  models: SCOPE_OF.findModels,
  service: SCOPE_OF.status,
  acknowledgePlayback: SCOPE_OF.acknowledge,
  createClientToken: SCOPE_OF.delegate,
  refreshClientToken: null,
  sessionStream: SCOPE_OF.subscribe,
} as const;

/** The scope that an operation asks the domain for; null where any caller may. Undefined for what is no operation. */
export function scopeOfOperation(name: string): Scope | null | undefined {
  const known: Record<string, Scope | null> = { ...SCOPE_OF, ...NAMED_OTHERWISE };
  return Object.hasOwn(known, name) ? known[name] : undefined;
}
