/** What every wire between servers must do, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Cluster, Member } from '../../src/sessions/index.js';
import { until } from './test-server.js';

/** A server that is on the wire, and what it was asked and told. */
export interface Server {
  cluster: Cluster;
  asked: [sessionId: string, message: string][];
  ended: string[];
}

export function joined(cluster: Cluster, name: string, more: Partial<Member> = {}): Server {
  const server: Server = { cluster, asked: [], ended: [] };
  cluster.join({
    notice: () => `I am ${name}`,
    receive: async (sessionId, message) => {
      server.asked.push([sessionId, message]);
      return `${name} heard ${message}`;
    },
    peerEnded: (id) => server.ended.push(id),
    ...more,
  });
  return server;
}

export function met(...servers: Server[]): Promise<void> {
  const all = servers.map(({ cluster }) => cluster.serverId);
  const knowsAll = ({ cluster }: Server) => {
    const known = cluster.peers().map(({ serverId }) => serverId);
    return all.every((id) => known.includes(id));
  };
  return until(() => servers.every(knowsAll), 'the servers know of each other', 5_000);
}

/** `open` makes a server on a wire that all have which it made since `begin`. */
export function describeCluster(wire: { open(): Cluster; begin?(): Promise<void>; end?(): Promise<void> }): void {
  let clusters: Cluster[] = [];
  const open = (): Cluster => {
    const cluster = wire.open();
    clusters.push(cluster);
    return cluster;
  };
  let a: Server;
  let b: Server;

  beforeEach(async () => {
    await wire.begin?.();
    a = joined(open(), 'a');
    b = joined(open(), 'b');
    await met(a, b);
  });
  afterEach(async () => {
    await Promise.all(clusters.map((cluster) => cluster.close()));
    clusters = [];
    await wire.end?.();
  });

  describe('commands', () => {
    it('reach the owner from every server, in order, each once', async () => {
      const heard: string[] = [];
      await a.cluster.claim('s', 1, async (message) => {
        heard.push(message);
        return `done ${message}`;
      });
      const sent = Array.from({ length: 50 }, (_, index) => `command ${index}`);
      const answers = await Promise.all(sent.map((message) => b.cluster.send('s', message)));
      expect(answers).toEqual(sent.map((message) => `done ${message}`));
      expect(heard).toEqual(sent);
      expect(await a.cluster.send('s', 'from here')).toBe('done from here');
    });

    it('have no answer where nobody owns the session', async () => {
      expect(await b.cluster.send('s', 'hello')).toBeUndefined();
    });

    it('reach a server that is named, and which owns nothing', async () => {
      expect(await b.cluster.send('s', 'hello', a.cluster.serverId)).toBe('a heard hello');
      expect(await b.cluster.send('', 'create', b.cluster.serverId)).toBe('b heard create');
      expect(a.asked).toEqual([['s', 'hello']]);
      expect(await b.cluster.send('s', 'hello', 'nobody')).toBeUndefined();
    });

    it('arrive as they were written, however long', async () => {
      await a.cluster.claim('s', 1, async (message) => message);
      const text = `„fox“ 🦊 \u0000 \r\n ${'x'.repeat(300_000)}`;
      expect(await b.cluster.send('s', text)).toBe(text);
    });
  });

  describe('a claim', () => {
    const owner = (name: string) => async () => name;

    it('is lost to a later epoch, and to no other', async () => {
      const first = await a.cluster.claim('s', 2, owner('a'));
      expect(await b.cluster.claim('s', 1, owner('b'))).toBeUndefined();
      expect(await b.cluster.claim('s', 2, owner('b'))).toBeUndefined();
      expect(await a.cluster.claim('s', 2, owner('a again'))).toBeUndefined();
      expect(await b.cluster.send('s', 'who?')).toBe('a');
      expect(await b.cluster.claim('s', 3, owner('b'))).toBeDefined();
      await until(() => first?.lost.aborted === true, 'the first owner hears of it', 5_000);
      await first?.release();
      expect(await a.cluster.send('s', 'who?')).toBe('b');
    });

    it('that is released routes nothing, and gives way to any other', async () => {
      const claim = await a.cluster.claim('s', 5, owner('a'));
      await claim?.release();
      expect(await b.cluster.send('s', 'who?')).toBeUndefined();
      expect(claim?.lost.aborted).toBe(false);
      expect(await b.cluster.claim('s', 1, owner('b'))).toBeDefined();
      expect(await a.cluster.send('s', 'who?')).toBe('b');
    });
  });

  it('tells every listener how far a log has grown', async () => {
    const here: number[] = [];
    const there: number[] = [];
    a.cluster.onAnnounce('s', (sequence) => here.push(sequence));
    const unlisten = b.cluster.onAnnounce('s', (sequence) => there.push(sequence));
    // That somebody listens takes a moment to get around.
    await until(() => (a.cluster.announce('s', 1), there.length > 0), 'the first one arrives', 5_000);
    a.cluster.announce('s', 2);
    a.cluster.announce('other', 3);
    await until(() => there.at(-1) === 2 && here.at(-1) === 2, 'both hear of it', 5_000);
    unlisten();
    const { length } = there;
    a.cluster.announce('s', 4);
    await until(() => here.at(-1) === 4, 'the one that is left hears of it', 5_000);
    expect(there).toHaveLength(length);
    expect(there).not.toContain(3);
  });

  it('knows who lives, and hears at once when one leaves', async () => {
    const notices = () => new Map(b.cluster.peers().map(({ serverId, notice }) => [serverId, notice]));
    expect(notices()).toEqual(
      new Map([
        [a.cluster.serverId, 'I am a'],
        [b.cluster.serverId, 'I am b'],
      ]),
    );
    const gone = { id: a.cluster.serverId, process: '' };
    expect(b.cluster.hasEnded(gone)).toBe(false);
    await a.cluster.claim('s', 1, async () => 'a');
    await a.cluster.close();
    await until(() => b.ended.includes(gone.id), 'it is noticed', 1_000);
    expect(b.cluster.hasEnded(gone)).toBe(true);
    expect(notices().has(gone.id)).toBe(false);
    expect(await b.cluster.send('s', 'who?')).toBeUndefined();
  });
}
