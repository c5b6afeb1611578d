/** Where things lie in the store. Numbers are padded so that a listing is in order. */

import { isSessionId } from './ids.js';

const pad = (n: number): string => String(n).padStart(6, '0');

export interface SessionKeys {
  id: string;
  prefix: string;
  record: string;
  init: string;
  poster: string;
  video: string;
  playlist: string;
  timeline: string;
  /** What people say of it; absent until they do. */
  label: string;
  /** Empty: the session is to be deleted, and media of it may be gone before its record could say so. */
  condemned: string;
  /** Folders. */
  checkpoints: string;
  chunks: string;
  log: string;
  forks: string;
  exports: string;
  chunk(n: number): string;
  checkpoint(blocks: number): string;
  segment(n: number): string;
}

/** Before everything that is stored of sessions. */
export const SESSIONS = 'sessions/';

export function keysOf(sessionId: string): SessionKeys {
  const prefix = `${SESSIONS}${sessionId}/`;
  return {
    id: sessionId,
    prefix,
    record: `${prefix}session.json`,
    init: `${prefix}init.mp4`,
    poster: `${prefix}poster.webp`,
    video: `${prefix}video.mp4`,
    playlist: `${prefix}index.m3u8`,
    timeline: `${prefix}timeline.jsonl`,
    label: `${prefix}label.json`,
    condemned: `${prefix}condemned`,
    checkpoints: `${prefix}checkpoints/`,
    chunks: `${prefix}chunks/`,
    log: `${prefix}log/`,
    forks: `${prefix}forks/`,
    exports: `${prefix}exports/`,
    chunk: (n) => `${prefix}chunks/${pad(n)}.m4s`,
    checkpoint: (blocks) => `${prefix}checkpoints/${pad(blocks)}.safetensors`,
    segment: (n) => `${prefix}log/${pad(n)}.jsonl`,
  };
}

/** One empty object per session that is not finished, so that a restart finds them without reading all sessions. */
export const UNFINISHED = 'unfinished/';

/** One empty object per session that waits for room, in the order of the line. */
export const WAITING = 'waiting/';

export function waitingKey(sessionId: string, since: number): string {
  return `${WAITING}${String(since).padStart(13, '0')}-${sessionId}`;
}

/** Undefined for what is none. */
export function waitingOfKey(key: string): { id: string; since: number } | undefined {
  const [, since, id = ''] = /^waiting\/(\d{13})-(.*)$/.exec(key) ?? [];
  return isSessionId(id) ? { id, since: Number(since) } : undefined;
}

/** One object per server that lives on this store; it writes its own again and again. */
export const SERVERS = 'servers/';

export function serverKey(serverId: string): string {
  return `${SERVERS}${serverId}.json`;
}

/** One empty object per export that is not made yet: `exporting/<session>-<range>`. */
export const EXPORTING = 'exporting/';

/** One empty object per session that was deleted and whose files are being removed. */
export const DELETING = 'deleting/';

/** See DeploymentSecret. */
export const DEPLOYMENT = 'deployment/';
export const DEPLOYMENT_SECRET = `${DEPLOYMENT}secret`;

/** Who may call the service: written by the operator's commands, and when a credential was used. */
export const ACCESS = 'access/';
/** One object per API key: when it was used last. */
export const KEY_USES = `${ACCESS}used/`;

/** One empty object per session, newest first in a listing. */
export const BY_DATE = 'by-date/';

/** Everything that the service reads, writes, lists and deletes: what a role for it must allow. */
export const STORE_PREFIXES = [
  SESSIONS,
  UNFINISHED,
  WAITING,
  SERVERS,
  EXPORTING,
  DELETING,
  BY_DATE,
  DEPLOYMENT,
  ACCESS,
];

const LAST_MILLISECOND = 9_999_999_999_999;

export function byDateKey(sessionId: string, createdAt: Date): string {
  return `${BY_DATE}${String(LAST_MILLISECOND - createdAt.getTime()).padStart(13, '0')}-${sessionId}`;
}

export function idOfByDateKey(key: string): string {
  return key.slice(BY_DATE.length + 14);
}

/** When the session was created. */
export function createdAtOfByDateKey(key: string): Date {
  const left = Number(key.slice(BY_DATE.length, BY_DATE.length + 13));
  return new Date(Number.isInteger(left) ? LAST_MILLISECOND - left : 0);
}

export function checkpointBlocksOf(key: string): number | undefined {
  const match = /\/checkpoints\/(\d+)\.safetensors$/.exec(key);
  return match ? Number(match[1]) : undefined;
}

const MEDIA = /^sessions\/([^/]+)\/(?:init\.mp4|chunks\/(\d+)\.m4s)$/;

/** Of the key of a chunk, or of an init segment, which has none. */
export function mediaOfKey(key: string): { sessionId: string; chunk: number | undefined } | undefined {
  const [, sessionId, chunk] = MEDIA.exec(key) ?? [];
  if (sessionId === undefined) return undefined;
  return { sessionId, chunk: chunk === undefined ? undefined : Number(chunk) };
}

/** Whose it is, of the key of a session's file. */
export function sessionIdOfKey(key: string): string | undefined {
  return key.startsWith(SESSIONS) ? key.split('/')[1] : undefined;
}

/** What `sessions({ after })` takes to go on behind this session. */
export function pageCursorOf({ id, createdAt }: { id: string; createdAt: Date }): string {
  return byDateKey(id, createdAt).slice(BY_DATE.length);
}

/** Whether it is one of those, as it was given out. */
export function isPageCursor(text: string): boolean {
  return /^\d{13}-/.test(text) && isSessionId(text.slice(14));
}
