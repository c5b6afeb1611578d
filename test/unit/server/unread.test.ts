import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Connections } from '../../../src/server/connections.js';
import { RefusalLog } from '../../../src/server/refusals.js';
import { givingWay } from '../../../src/server/unread.js';
import { until } from '../../support/test-server.js';

const MEBIBYTE = 2 ** 20;
/** More than the system takes for a connection whose client reads nothing. */
const LARGE = Buffer.alloc(24 * MEBIBYTE);

describe('connections give way', () => {
  const one = (address: string, bytes: number, stalledFor = 0) => ({ address, bytes, stalledFor });

  test('not while all together leave little unread', () => {
    expect(givingWay([one('a', 6), one('b', 4)], 10)).toEqual([]);
  });

  test('of the address that leaves most, the longest stalled first, and no more than must', () => {
    const [fresh, old] = [one('a', 6, 1), one('a', 6, 2)];
    expect(givingWay([fresh, old, one('b', 8, 3)], 15)).toEqual([old]);
    expect(givingWay([fresh, old, one('b', 8, 3)], 13)).toEqual([old, one('b', 8, 3)]);
  });
});

describe('unread answers', () => {
  let server: Server;
  const clients: Socket[] = [];
  const lines: string[] = [];
  afterEach(() => {
    for (const client of clients.splice(0)) client.destroy();
    server.close();
  });

  async function start(maxUnreadMegabytes: number, answer = LARGE): Promise<ServerResponse[]> {
    const begun: ServerResponse[] = [];
    const limits = { maxConnections: 100, maxPipelined: 4, stallSeconds: 60, maxUnreadMegabytes };
    const quiet = () => undefined;
    const log = { debug: quiet, warn: quiet, error: quiet, info: (_: object, line: string) => lines.push(line) };
    server = createServer();
    const connections = new Connections(server, limits, new RefusalLog(log));
    const serve = async (...[request, response]: Parameters<RequestListener>) => {
      const turn = connections.begin(request, response, request.socket.remoteAddress ?? '');
      if (!turn) return void response.writeHead(429).end();
      await turn;
      begun.push(response);
      response.end(answer);
    };
    server.on('request', (request, response) => void serve(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return begun;
  }

  function ask(times: number, localAddress = '127.0.0.1'): Socket {
    const { port } = server.address() as AddressInfo;
    const client = connect({ host: '127.0.0.1', port, localAddress }).on('error', () => undefined);
    client.pause();
    client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(times));
    clients.push(client);
    return client;
  }

  test('of one connection are one: the next request begins when it was taken', async () => {
    const begun = await start(1000);
    const client = ask(3);
    await until(() => Promise.resolve(begun.length > 0), 'the first is served');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(begun.length).toBe(1);
    client.resume();
    await until(() => Promise.resolve(begun.length === 3), 'all are served');
  });

  test('of one connection are not waited for by more requests than it may have', async () => {
    await start(1000, Buffer.from('here'));
    const client = ask(6);
    let text = '';
    client.on('data', (bytes: Buffer) => (text += bytes.toString())).resume();
    const statuses = () => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
    await until(() => Promise.resolve(statuses().length === 6), 'all are answered');
    expect(statuses()).toEqual(['200', '200', '200', '200', '429', '429']);
  });

  test('of all connections have a bound: whoever leaves most loses connections, nobody else', async () => {
    const begun = await start(60);
    const other = ask(1, '127.0.0.2');
    await until(() => Promise.resolve(begun.length === 1), 'the other is served');
    const greedy = [ask(1), ask(1), ask(1), ask(1)];
    await until(() => Promise.resolve(begun.length === 5), 'all are served');
    const waiting = () => begun.reduce((sum, { socket }) => sum + (socket?.writableLength ?? 0), 0);
    await until(() => Promise.resolve(waiting() <= 60 * MEBIBYTE), 'there is room');
    expect(begun.filter(({ socket }) => socket?.destroyed === false).length).toBeGreaterThanOrEqual(2);
    expect(begun[0]?.socket?.destroyed).toBe(false);
    expect(lines.join()).toContain('maxUnreadMegabytes');
    other.destroy();
    expect(greedy.length).toBe(4);
  });
});
