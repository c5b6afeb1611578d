export interface Link {
  url: string;
  expiresAt: Date;
}

/** What a session shows: its own files, and of the session that it branched off from only what it inherited. */
export function linkFor(links: MediaLinks, sessionId: string, key: string): Link {
  return key.startsWith(`sessions/${sessionId}/`) ? links.to(key) : links.file(key);
}

/** Where clients find a session's files. URLs may be relative to the service's own address. */
export interface MediaLinks {
  /** `key` is a store key: `sessions/<id>/…`. What is in the link opens the other files of that session, too. */
  to(key: string): Link;
  /** The same for this file alone. */
  file(key: string): Link;
}
