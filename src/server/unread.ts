/** What a connection's client has not taken yet. */
export interface Unread {
  readonly address: string;
  readonly bytes: number;
  /** For how many milliseconds nothing was taken of it. */
  readonly stalledFor: number;
}

/**
 * Which connections are closed so that no more than `most` bytes wait: of the address that leaves most unread, the longest
 * stalled first, so that others keep theirs.
 */
export function givingWay<One extends Unread>(connections: readonly One[], most: number): One[] {
  const leaving: One[] = [];
  const addresses = new Map<string, { bytes: number; connections: One[] }>();
  for (const each of [...connections].sort((a, b) => a.stalledFor - b.stalledFor)) {
    const of = addresses.get(each.address) ?? { bytes: 0, connections: [] };
    of.bytes += each.bytes;
    of.connections.push(each);
    addresses.set(each.address, of);
  }
  for (let excess = connections.reduce((sum, { bytes }) => sum + bytes, -most); excess > 0;) {
    const greediest = [...addresses.values()].reduce((a, b) => (a.bytes >= b.bytes ? a : b));
    const next = greediest.connections.pop();
    if (!next) break;
    leaving.push(next);
    greediest.bytes -= next.bytes;
    excess -= next.bytes;
  }
  return leaving;
}
