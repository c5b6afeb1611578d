export interface Link {
  url: string;
  expiresAt: Date;
}

/** Where clients find a session's files. URLs may be relative to the service's own address. */
export interface MediaLinks {
  /** `key` is a store key: `sessions/<id>/…`. */
  to(key: string): Link;
}
