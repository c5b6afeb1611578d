/** What must be refused or cut off whatever else holds: strangers by host and origin, forged links, floods that nobody reads. */

import { frame, type Prey } from './hostile.js';
import type { Script, Step } from './wire.js';

type Random = (below: number) => number;

const HANDSHAKE =
  'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n';
const QUERY = '/graphql?query=%7B__typename%7D';
const FOREIGN_HOSTS = [
  'rebind.example',
  'rebind.example:4000',
  '8.8.8.8',
  '[2001:db8::1]',
  'localhost.rebind.example',
  '127.0.0.1.nip.example',
];
const FOREIGN_ORIGINS = ['http://evil.example', 'https://localhost.evil.example', 'http://evil.example:80', 'null'];
/** Of pings and messages, in all. */
const FLOOD_BYTES = 24 * 2 ** 20;

const one = <T>(random: Random, choices: readonly T[]): T => choices[random(choices.length)] as T;

export function forbidden(prey: Prey, random: Random): Script {
  return one<() => Script>(random, [
    () => foreign(prey, random),
    () => foreign(prey, random),
    () => forged(prey, random),
    () => forged(prey, random),
    () => flood(prey, random),
  ])();
}

const refused = (kind: string, write: string): Script => ({
  ...{ kind, steps: [{ write }], end: 'hold', patience: 300, forbidden: true },
});

/** Of a host that is not served, or from a page of another origin; by HTTP and by WebSocket. */
function foreign({ host }: Prey, random: Random): Script {
  const [asked, origin] =
    random(2) === 0 ? [one(random, FOREIGN_HOSTS), ''] : [host, `origin: ${one(random, FOREIGN_ORIGINS)}\r\n`];
  const upgrade = random(2) === 0;
  const target = upgrade ? '/graphql' : one(random, [QUERY, '/metrics', '/']);
  return refused('foreign', `GET ${target} HTTP/1.1\r\nhost: ${asked}\r\n${origin}${upgrade ? HANDSHAKE : ''}\r\n`);
}

/** A signature that is valid but for something behind, before or beside it. */
function forged({ host, links }: Prey, random: Random): Script {
  const link = one(
    random,
    links.filter((each) => each.includes('s=')),
  );
  const changed = one(random, [
    `${link}==`,
    `${link}%0Ahttp://evil.example/`,
    `${link}==%0d%0ax:y`,
    `${link}&s=`,
    link.replace('s=', 's=%20'),
    link.replace(/e=(\d+)/, 'e=$1.0'),
    link.replace(/e=(\d+)/, 'e=0$1'),
    link.replace(/e=(\d)/, (_, digit: string) => `e=${(Number(digit) + 1) % 10}`),
    link.replace(/s=[^&]*/, 's='),
  ]);
  return refused('forged', `GET ${changed} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
}

/** A WebSocket that is written to and never read, before its login or behind it. */
function flood({ host }: Prey, random: Random): Script {
  const payload = 'p'.repeat(one(random, [125, 4_000, 16_000, 250_000]));
  const piece = frame(9, payload);
  const burst = piece.repeat(Math.max(1, Math.floor(2 ** 20 / piece.length)));
  const steps: Step[] = [{ write: `GET /graphql HTTP/1.1\r\nhost: ${host}\r\n${HANDSHAKE}\r\n` }];
  if (random(2) === 0) steps.push({ write: frame(1, '{"type":"connection_init"}') });
  for (let sent = 0; sent < FLOOD_BYTES; sent += burst.length) steps.push({ write: burst }, { wait: 5 });
  return { kind: 'flood', steps, end: 'hold', patience: 3000, unread: true };
}
