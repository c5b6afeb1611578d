import type { CallerSessions, Delegate, DomainError, Principal, SessionEvent } from '../sessions/index.js';
import type { MediaLinks } from './links.js';

/** Bounds the subscriptions that one session may have at this server. */
export interface SubscriberGate {
  /** The function that leaves again, or `undefined` when the session is full. */
  enter(sessionId: string): (() => void) | undefined;
}

/** Reads small stored files, such as init segments, by store key. */
export interface MediaReader {
  read(key: string): Promise<Uint8Array>;
}

export interface ServiceFacts {
  version: string;
  heartbeatSeconds: number;
  maxSubscribersPerSession: number;
}

export interface ClientTokenIssuer {
  issue(delegate: Delegate, ttlSeconds: number): Promise<{ token: string; expiresAt: Date }>;
  /** Of the WebSocket that asks; until when. INVALID_INPUT. */
  prolong(token: string): Promise<Date>;
}

/** What resolvers work with. The server makes one per operation. */
export interface ApiContext {
  /** Who asks. */
  principal: Principal;
  /** As whoever asks may see and change them. */
  sessions: CallerSessions;
  clientTokens: ClientTokenIssuer;
  /** Takes the cost of an operation from what whoever asks may have. RATE_LIMIT. */
  spend(cost: number): Promise<void>;
  links: MediaLinks;
  media: MediaReader;
  gate: SubscriberGate;
  facts: ServiceFacts;
  /** Aborted when the operation may take no longer: what only reads then stops. Not in subscriptions. */
  signal?: AbortSignal;
  /** The cursor that a client over SSE goes on behind: what it was handed last. */
  lastEventId?: string;
  /** Told of every failure that a client is answered with. */
  failed(error: DomainError): void;
  /** Told of every event that a subscriber is handed. */
  observe(event: SessionEvent): void;
}
