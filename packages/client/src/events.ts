/** The events of a session as programs see them. */
import type { SessionStreamSubscription } from './generated/operations.js';
import { serviceError } from './results.js';

type Told = SessionStreamSubscription['sessionStream'];
type Of<Name extends Told['__typename']> = Omit<Extract<Told, { __typename: Name }>, '__typename'>;

export type ChunkEvent = { readonly type: 'chunk' } & Of<'FrameChunk'>;
export type RequestedEvent = { readonly type: 'requested' } & Of<'PromptRequested'>;
export type AppliedEvent = { readonly type: 'applied' } & Of<'PromptApplied'>;
export type SupersededEvent = { readonly type: 'superseded' } & Of<'PromptSuperseded'>;
export type MovedEvent = { readonly type: 'moved' } & Of<'PromptMoved'>;
export type CancelledEvent = { readonly type: 'cancelled' } & Of<'PromptCancelled'>;
export type StateEvent = { readonly type: 'state' } & Of<'StateChanged'>;
export type HeartbeatEvent = { readonly type: 'heartbeat' } & Of<'Heartbeat'>;
export type EndedEvent = { readonly type: 'ended' } & Of<'SessionEnded'>;

/** What stands in the log of a session, in its order. */
export type SessionEvent =
  ChunkEvent | RequestedEvent | AppliedEvent | SupersededEvent | MovedEvent | CancelledEvent | StateEvent | EndedEvent;

const TYPES: Readonly<Record<string, SessionEvent['type'] | 'heartbeat'>> = {
  FrameChunk: 'chunk',
  PromptRequested: 'requested',
  PromptApplied: 'applied',
  PromptSuperseded: 'superseded',
  PromptMoved: 'moved',
  PromptCancelled: 'cancelled',
  StateChanged: 'state',
  Heartbeat: 'heartbeat',
  SessionEnded: 'ended',
};

/** Undefined for a kind of event that this release does not know. Throws the error that a stream ends with. */
export function toEvent(told: Told): SessionEvent | HeartbeatEvent | undefined {
  if ('code' in told) throw serviceError(told);
  const { __typename: name, ...fields } = told;
  const type = TYPES[name];
  if (type === undefined) return undefined;
  return { type, ...fields } as SessionEvent | HeartbeatEvent;
}

/** URLs in events may be relative to the service. */
export function absolute(event: SessionEvent, base: string): SessionEvent {
  const full = <Part extends { readonly url: string | null }>(part: Part): Part =>
    part.url === null ? part : { ...part, url: new URL(part.url, base).href };
  if (event.type === 'chunk') return { ...full(event), init: event.init && full(event.init) };
  if (event.type === 'ended') return { ...event, artifacts: event.artifacts.map(full) };
  return event;
}
