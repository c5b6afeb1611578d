/** What the edge fuzzer sends: one script for each number, always the same one for the same number and target. */

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { mutate, randomFrom } from './mutate.js';
import { type Operation, operations } from './operations.js';
import { ofEachRule, refused, slow } from './rules.js';
import type { Script, Step } from './wire.js';

/** What is at the service's address. */
export interface Prey {
  host: string;
  /** A session that may be spoiled. */
  sessionId: string;
  /** Paths with signatures that work. */
  links: readonly string[];
  schema: string;
}

type Random = (below: number) => number;

export class Hostile {
  private readonly operations: fc.Arbitrary<Operation>;
  private readonly kinds: readonly ((random: Random, seed: number) => Script)[];

  constructor(private readonly prey: Prey) {
    this.operations = operations(prey.schema, [prey.sessionId, 'no-such-session']);
    this.kinds = [
      (random) => this.http(random),
      (random) => this.pipelined(random),
      (random) => this.damaged(random),
      (random) => this.upgrade(random),
      (random) => this.frames(random),
      (random, seed) => this.webSocket(random, seed),
      (random, seed) => this.graphql(random, seed),
      (random, seed) => this.graphql(random, seed),
      (random) => this.media(random),
      (random) => refused(this.prey, random),
      (random) => refused(this.prey, random),
      (random) => refused(this.prey, random),
      (random) => refused(this.prey, random),
    ];
  }

  script(seed: number, number: number): Script {
    const mixed = mixture(`${seed} ${number}`);
    const random = randomFrom(mixed);
    return (this.kinds[number % this.kinds.length] as (random: Random, seed: number) => Script)(random, mixed);
  }

  /** Those that take seconds, and crowds, of which there should not be many at once. */
  slow(seed: number, number: number): Script {
    return slow(this.prey, number, randomFrom(mixture(`slow ${seed} ${number}`)));
  }

  ofEachRule(seed: number): Script[] {
    return ofEachRule(this.prey, randomFrom(mixture(`each ${seed}`)));
  }

  private http(random: Random): Script {
    return script('http', [{ write: this.request(random) }], random);
  }

  private pipelined(random: Random): Script {
    const steps: Step[] = [];
    const stream = {
      query: 'subscription ($id: ID!) { sessionStream(sessionId: $id) { __typename } }',
      variables: { id: this.prey.sessionId },
    };
    if (random(3) === 0) steps.push({ write: this.post(stream, 'accept: text/event-stream\r\n') });
    const one = this.request(random);
    steps.push({
      write: random(2) === 0 ? one.repeat(2 + random(40)) : one + this.request(random) + this.request(random),
    });
    return script('pipelined', steps, random);
  }

  /** A sound request with a few bytes changed, in pieces. */
  private damaged(random: Random): Script {
    const whole = pick(random, [
      this.request(random),
      this.post({ query: '{ __typename }' }),
      this.handshake(random, true),
    ]);
    const bytes = mutate(Buffer.from(whole, 'latin1'), [], random).toString('latin1');
    return script('damaged', inPieces(bytes, random), random);
  }

  /** Upgrades that are refused, cut off, or left half open. */
  private upgrade(random: Random): Script {
    const whole = this.handshake(random, random(4) === 0);
    const steps: Step[] = [{ write: random(5) === 0 ? whole.slice(0, random(whole.length)) : whole }];
    if (random(2) === 0) steps.push({ wait: pick(random, [0, 1, 20, 50]) });
    return script('upgrade', steps, random);
  }

  /** Frames of any kind, before or after the login. */
  private frames(random: Random): Script {
    const steps: Step[] = [{ write: this.handshake(random, true) }];
    if (random(2) === 0) steps.push({ write: frame(1, '{"type":"connection_init"}') });
    for (let count = 1 + random(12); count > 0; count--) steps.push(...this.strangeFrame(random));
    return script('frames', steps, random);
  }

  /** Messages of graphql-transport-ws, in order and out of it. */
  private webSocket(random: Random, seed: number): Script {
    const steps: Step[] = [{ write: this.handshake(random, true) }];
    if (random(4) > 0) steps.push({ write: frame(1, '{"type":"connection_init"}') });
    const operations = fc.sample(this.operations, { numRuns: 4, seed });
    for (let count = 1 + random(10); count > 0; count--) {
      const payload = pick<unknown>(random, [...operations, null, [], 'text', { query: 7 }, {}]);
      const message = {
        ...(random(8) > 0 && { id: pick<unknown>(random, ['1', '2', '', 1, null, 'x'.repeat(300)]) }),
        type: pick<unknown>(random, [
          'subscribe',
          'subscribe',
          'subscribe',
          'complete',
          'ping',
          'pong',
          'connection_init',
          'next',
          'error',
          '',
          null,
          5,
        ]),
        ...(random(5) > 0 && { payload }),
      };
      steps.push({ write: frame(1, json(message)) });
      if (random(4) === 0) steps.push({ wait: random(20) });
    }
    return script('graphql over WebSocket', steps, random);
  }

  private graphql(random: Random, seed: number): Script {
    const [operation] = fc.sample(this.operations, { numRuns: 1, seed }) as [Operation];
    const accept = pick(random, [
      '',
      'accept: application/json\r\n',
      'accept: text/event-stream\r\n',
      'accept: multipart/mixed\r\n',
      'accept: */*;q=0\r\n',
    ]);
    const whole = pick<() => string>(random, [
      () => this.post(operation, accept),
      () => this.post(operation, accept),
      () =>
        this.post({ ...operation, query: mutate(Buffer.from(operation.query), [], random).toString('latin1') }, accept),
      () => this.post([operation, operation], accept),
      () => this.post({ query: '{ '.repeat(1 + random(5000)), variables: random(2) === 0 ? [] : 'x' }, accept),
      () => this.post({ query: `{ ${'...F '.repeat(random(300))} } fragment F on Query { ...F }` }, accept),
      () =>
        this.get(
          `/graphql?query=${percentEncoded(operation.query).slice(0, 12_000)}&variables=${percentEncoded(json(operation.variables)).slice(0, 2000)}`,
          accept,
        ),
    ])();
    return script('graphql', [{ write: whole }], random);
  }

  private media(random: Random): Script {
    const link = this.link(random);
    const extra = pick(random, [
      '',
      '',
      `range: bytes=${random(50)}-${random(2) === 0 ? '' : random(5000)}\r\n`,
      'range: bytes=-0\r\n',
      'range: bytes=9999999999-\r\n',
      'range: lines=1-2, 5\r\n',
      'accept-encoding: gzip, x-gzip;q=1\r\n',
      'if-none-match: "x"\r\n',
    ]);
    return script(
      'media',
      [{ write: this.get(link, extra + cookies(random), pick(random, ['GET', 'GET', 'HEAD', 'POST'])) }],
      random,
    );
  }

  private link(random: Random): string {
    const link = pick(random, this.prey.links);
    if (random(3) === 0) return link;
    const changed = mutate(Buffer.from(link), [[10, link.length]], random).toString('latin1');
    const printable = changed.replace(/[^!-~]/g, (letter) => `%${letter.charCodeAt(0).toString(16).padStart(2, '0')}`);
    return pick(random, [
      printable,
      link.replace(
        /sessions\/[^/]+/,
        pick(random, [
          'sessions/no-such',
          'sessions/..',
          'sessions/.scratch',
          'sessions/%2e%2e',
          `sessions/${'a'.repeat(128)}`,
        ]),
      ),
      link.replace(
        /\/[^/?]+\?/,
        pick(random, [
          '/session.json?',
          '/checkpoints/1?',
          '/../session.json?',
          '/chunks/999999.m4s?',
          '/exports/000000-000001.mp4?',
          '/%2e%2e%2fsession.json?',
        ]),
      ),
      `${link}&${pick(random, ['s=', 'e=1', 'f=x', '_HLS_skip=YES', '_HLS_msn=9'])}`,
      link.replace(/e=\d+/, `e=${pick(random, ['0', '-1', '1', '9'.repeat(12), '9'.repeat(400), '1e9', ' 1'])}`),
      link.replace('?', pick(random, ['/?', '%3f', '?&', '//?'])),
    ]);
  }

  private request(random: Random): string {
    const method = pick(random, [
      'GET',
      'GET',
      'GET',
      'HEAD',
      'POST',
      'OPTIONS',
      'PUT',
      'TRACE',
      'CONNECT',
      'PROPFIND',
      'get',
      '',
    ]);
    const target = pick(random, [
      ...TARGETS,
      this.link(random),
      `/${'a'.repeat(random(20_000))}`,
      `/?${noise(random)}`,
      noise(random),
    ]);
    const body = random(3) === 0 ? this.body(random) : '\r\n';
    return `${method} ${target} HTTP/${pick(random, ['1.1', '1.1', '1.1', '1.1', '1.0', '2.0', '0.9'])}\r\n${this.headers(random)}${body}`;
  }

  private headers(random: Random): string {
    const lines =
      random(10) === 0 ? [] : [`host: ${pick(random, [this.prey.host, this.prey.host, this.prey.host, ...HOSTS])}`];
    for (let count = random(5); count > 0; count--)
      lines.push(
        pick(random, [
          ...HEADERS,
          `x-${random(99)}: ${noise(random)}`,
          `host: ${this.prey.host}`,
          `x-long: ${'y'.repeat(random(20_000))}`,
        ]),
      );
    if (random(20) === 0) lines.push(...Array.from({ length: random(3000) }, (_, i) => `h${i}: 1`));
    return lines.map((line) => `${line}\r\n`).join('') + cookies(random);
  }

  private body(random: Random): string {
    const text = pick(random, [
      '{"query":"{ __typename }"}',
      noise(random),
      'x'.repeat(random(300_000)),
      '[['.repeat(random(20_000)),
      '',
    ]);
    const type = pick(random, [
      '',
      'content-type: application/json\r\n',
      'content-type: multipart/form-data; boundary=x\r\n',
      'content-type: application/json; charset=utf-99\r\n',
    ]);
    return (
      type +
      pick(random, [
        `content-length: ${text.length}\r\n\r\n${text}`,
        `content-length: ${text.length + random(100)}\r\n\r\n${text}`,
        `content-length: ${pick(random, ['-1', '1, 1', '9'.repeat(30), '0x5', ''])}\r\n\r\n${text}`,
        `transfer-encoding: chunked\r\n\r\n${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`,
        `transfer-encoding: chunked\r\n\r\n${pick(random, ['zz', '-1', 'fffffffffffffffff', `5;${'e'.repeat(random(20_000))}`])}\r\n${text}`,
        `transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n${text}`,
        `content-encoding: ${pick(random, ['gzip', 'br', 'x'])}\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
      ])
    );
  }

  private post(body: object, headers = ''): string {
    const bytes = Buffer.from(json(body)).toString('latin1');
    return `POST /graphql HTTP/1.1\r\nhost: ${this.prey.host}\r\ncontent-type: application/json\r\n${headers}content-length: ${bytes.length}\r\n\r\n${bytes}`;
  }

  private get(target: string, headers = '', method = 'GET'): string {
    return `${method} ${target} HTTP/1.1\r\nhost: ${this.prey.host}\r\n${headers}\r\n`;
  }

  private handshake(random: Random, sound: boolean): string {
    const protocol = 'sec-websocket-protocol: graphql-transport-ws\r\n';
    const headers =
      'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
    if (sound) return `GET /graphql HTTP/1.1\r\nhost: ${this.prey.host}\r\n${headers}${protocol}\r\n`;
    const spoiled = pick(random, [
      headers,
      headers.replace('13', pick(random, ['12', '-1', '99999999999', ''])),
      headers.replace('dGhl', pick(random, ['', 'x', '\0'])),
      headers.replace('websocket', pick(random, ['h2c', 'WebSocket, foo', ''])),
      `${headers}sec-websocket-extensions: ${pick(random, ['permessage-deflate; server_max_window_bits=99', 'x; y="', ','])}\r\n`,
    ]);
    const target = random(2) === 0 ? '/graphql' : pick(random, TARGETS);
    const protocols = pick(random, [
      '',
      protocol,
      'sec-websocket-protocol: graphql-ws\r\n',
      'sec-websocket-protocol: ,,\r\n',
    ]);
    return `GET ${target} HTTP/1.1\r\n${this.headers(random)}${spoiled}${protocols}\r\n`;
  }

  private strangeFrame(random: Random): Step[] {
    const text = pick(random, [
      '{"type":"ping"}',
      '{',
      '[]',
      'null',
      '"\\ud800"',
      '{"type":"subscribe"}',
      '\xff\xfe\xc3\x28',
      noise(random),
      '{"__proto__":{"type":"ping"}}',
      '['.repeat(random(15_000)),
    ]);
    return pick<() => Step[]>(random, [
      () => [{ write: frame(1, text) }],
      () => [{ write: frame(2, text) }],
      () => [{ write: frame(9, text.slice(0, random(200))).repeat(1 + random(200)) }],
      () => [{ write: frame(10, text.slice(0, 125)) }],
      () => [
        {
          write: frame(
            8,
            pick(random, ['', '\x03', '\x03\xe8', '\x00\x00', '\xff\xff', `\x03\xe8${text.slice(0, 100)}`]),
          ),
        },
      ],
      () => [
        { write: frame(1, text.slice(0, 3), { last: false }) },
        { wait: random(10) },
        { write: frame(0, text.slice(3)) },
      ],
      () => [{ write: frame(1, 'a', { last: false }).concat(frame(0, '', { last: false }).repeat(random(3000))) }],
      () => [{ write: frame(1, 'x'.repeat(pick(random, [16_384, 16_385, 65_536, 262_144, 262_145, 600_000]))) }],
      () => [{ write: frame(random(16), text, { reserved: random(8) }) }],
      () => [{ write: frame(1, text, { masked: false }) }],
      () => [{ write: frame(1, text, { length: pick(random, [2n ** 31n, 2n ** 53n, 2n ** 63n]) }) }],
      () => [{ write: frame(1, text).slice(0, 1 + random(8)) }],
    ])();
  }
}

const TARGETS = [
  ...[
    '/',
    '//',
    '/healthz',
    '/readyz',
    '/metrics',
    '/graphql',
    '/graphql?query={__typename}',
    '/graphql?query=',
    '*',
    '/sessions/',
  ],
  ...[
    '/%00',
    '/%zz',
    '/%',
    '/\\',
    '/a#b',
    '/..',
    '/../../../../etc/passwd',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/.',
    '//evil.example/x',
    '///',
  ],
  ...[
    'http://evil.example/',
    'http://127.0.0.1/healthz',
    'http://[/',
    'http://',
    'ftp://x/',
    'javascript:alert(1)',
    'https:',
    '/?a=%E0%A4%A',
    '/a b',
  ],
  ...[
    '/index.html',
    '/assets/',
    '/assets/%2e%2e/index.html',
    '/favicon.ico',
    '/graphql/',
    '/GRAPHQL',
    '/constructor',
    '/__proto__',
  ],
];

const HOSTS = [
  '',
  '[bad',
  '[::1]',
  '[::1%lo]',
  'a:b',
  'rebind.example',
  'localhost',
  'LOCALHOST.',
  '127.0.0.1:99999',
  'a@b',
  '\xff',
  'x'.repeat(300),
  '127.1',
  '..',
  'a/b',
  ':80',
];

const HEADERS = [
  ...[
    'origin: null',
    'origin: http://evil.example',
    'origin: [',
    'origin: http://localhost',
    'accept: text/html',
    'accept: text/event-stream',
  ],
  ...[
    'expect: 100-continue',
    'expect: x',
    'connection: close',
    'connection: keep-alive, upgrade',
    'upgrade: h2c',
    'x-request-id: a b',
    'x-request-id: \x01',
  ],
  ...[
    'x-forwarded-for: 1.2.3.4, bad',
    'x-forwarded-for: [',
    'x-forwarded-host: evil.example',
    'authorization: Bearer ',
    'authorization: Basic \xff',
    'if-modified-since: x',
  ],
  ...[
    'access-control-request-method: POST',
    ' folded: yes',
    'no colon',
    'bad name: 1',
    'content-length: 5',
    'transfer-encoding: identity',
    'te: trailers',
    '\0: 1',
  ],
];

function mixture(text: string): number {
  return createHash('sha256').update(text).digest().readInt32LE(0);
}

function cookies(random: Random): string {
  if (random(4) > 0) return '';
  return `cookie: ${pick(random, ['a=b', '=', ';;;', '__proto__=1', 'token=%', `x=${noise(random)}`, `${'k=v; '.repeat(random(2000))}`, 'a="'])}\r\n`;
}

/** Any bytes but line ends, so that they stay where they are put. */
function noise(random: Random): string {
  return Array.from({ length: random(60) }, () => String.fromCharCode(random(256)))
    .join('')
    .replace(/[\r\n]/g, '.');
}

function script(kind: string, steps: Step[], random: Random): Script {
  const end = pick<Script['end']>(random, ['half-close', 'reset', 'hold', 'hold']);
  return {
    kind,
    steps,
    end,
    patience: pick(random, end === 'reset' ? [0, 1, 20, 20, 100] : [50, 150, 300, 300, 2000]),
  };
}

function inPieces(bytes: string, random: Random): Step[] {
  const at = random(bytes.length + 1);
  return [{ write: bytes.slice(0, at) }, { wait: random(30) }, { write: bytes.slice(at) }];
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random(choices.length)] as T;
}

/** UTF-8, with what JSON has no word for left out. */
function json(value: unknown): string {
  return JSON.stringify(value) ?? 'null';
}

interface FrameOptions {
  last?: boolean;
  reserved?: number;
  masked?: boolean;
  /** Other than it is. */
  length?: bigint;
}

/** A WebSocket frame of a client. */
export function frame(
  opcode: number,
  text: string,
  { last = true, reserved = 0, masked = true, length }: FrameOptions = {},
): string {
  const mask = [0x12, 0x34, 0x56, 0x78];
  const size = text.length;
  const head = [(last ? 128 : 0) | (reserved << 4) | opcode];
  const masking = masked ? 128 : 0;
  if (length === undefined && size < 126) head.push(masking | size);
  else if (length === undefined && size < 65_536) head.push(masking | 126, size >> 8, size & 255);
  else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(length ?? BigInt(size));
    head.push(masking | 127, ...wide);
  }
  const body = Buffer.from(text, 'latin1');
  if (masked) body.forEach((byte, at) => (body[at] = byte ^ (mask[at % 4] as number)));
  return Buffer.from([...head, ...(masked ? mask : [])]).toString('latin1') + body.toString('latin1');
}

/** Lone surrogates, which have no encoding, are replaced. */
function percentEncoded(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString());
}
