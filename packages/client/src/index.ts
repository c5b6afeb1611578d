export { type RoomWait } from './admitted.js';
export {
  type ClientOptions,
  createClient,
  type CreateOptions,
  type ListOptions,
  LiveClient,
  type ModelFacts,
  type RenderOptions,
  type ServiceFacts,
  type SessionPage,
} from './client.js';
export type { Outcome } from './control.js';
export type { DownloadOptions } from './download.js';
export { ClosedError, ConnectionError, RequestError, ServiceError, UnauthorizedError } from './errors.js';
export type {
  AppliedEvent,
  CancelledEvent,
  ChunkEvent,
  EndedEvent,
  MovedEvent,
  RequestedEvent,
  SessionEvent,
  StateEvent,
  SupersededEvent,
} from './events.js';
export * from './generated/errors.js';
export type { Events, LogOptions } from './log.js';
export { DecodeError } from './player/append-queue.js';
export { attach } from './player/attach.js';
export type { Seen } from './player/first-frames.js';
export type { Player, PlayerOptions, PlayerState, PlayerStats } from './player/player.js';
export {
  type ForkOptions,
  type LabelChanges,
  type MoveOptions,
  type PlanOptions,
  type Position,
  type PromptFacts,
  type Receipt,
  type ReceiptFacts,
  Session,
  type SessionFacts,
  type StoredChunk,
  type SwitchOptions,
} from './session.js';
export type { Failure, State } from './state.js';
export type { TokenSource } from './wire/token.js';
