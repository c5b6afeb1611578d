/**
 * What the service must refuse, cut off or be quick about, with what must come of it: each limit of `docs/security.md` that can be
 * seen from outside has its scripts here, so that the fuzzer notices when one no longer holds.
 */

import { frame, type Prey } from './hostile.js';
import type { Expectation, Script, Step } from './wire.js';

type Random = (below: number) => number;
type Rule = (prey: Prey, random: Random) => Script;

/** Limits of time of the service under attack, so short that each is seen to hold many times a minute. */
export const SHORT_TIMES = { HEADER_SECONDS: 2, BODY_SECONDS: 12, KEEP_ALIVE_SECONDS: 2, LOGIN_SECONDS: 4 };
export const MAX_CONNECTIONS = 512;
/** More than any answer to the others has, and less than an introspection's. */
export const MAX_ANSWER_BYTES = 16_384;
/** An address of this machine that no client has but the proxy whose word counts. */
export const TRUSTED_PROXY = '127.0.0.3';
/** For whatever must be closed or answered: the limits of time, and some for the work. */
const PATIENCE_MS = 10_000;

const UPGRADE =
  'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n';
const CLOSE = 'connection: close\r\n';
const INIT = frame(1, '{"type":"connection_init"}');
const QUERY = '/graphql?query=%7B__typename%7D';

/** Of the service's settings, as they are by default. */
const [LOGIN_BYTES, HEADER_BYTES, BODY_BYTES] = [16_384, 16_384, 262_144];
const [PIPELINED, OPERATIONS, STRANGERS, ALIASES, PIECES] = [16, 32, 32, 15, 512];
/** More than the system takes for a connection whose client reads nothing, and the service may keep. */
const FLOOD_BYTES = 24 * 2 ** 20;

const one = <T>(random: Random, choices: readonly T[]): T => choices[random(choices.length)] as T;
const rule = (kind: string, steps: Step[], expect: Expectation, more: Partial<Script> = {}): Script => ({
  ...{ kind, steps, end: 'hold', patience: PATIENCE_MS, expect },
  ...more,
});
const request = (line: string, host: string, headers = '', body = '') =>
  `${line} HTTP/1.1\r\nhost: ${host}\r\n${headers}\r\n${body}`;
const upgrade = (host: string, headers = '', target = '/graphql') => request(`GET ${target}`, host, headers + UPGRADE);
const post = (host: string, body: object, headers = '') => {
  const text = JSON.stringify(body);
  return request(
    'POST /graphql',
    host,
    `content-type: application/json\r\n${headers}content-length: ${text.length}\r\n`,
    text,
  );
};

/** At once: one of them for each script. */
export function refused(prey: Prey, random: Random): Script {
  return one(random, RULES)(prey, random);
}

/** One of each: what a first use loads and compiles is no growth. */
export function ofEachRule(prey: Prey, random: Random): Script[] {
  return [...new Set(RULES)].map((each) => each(prey, random));
}

/** That takes the service's limits of time, one after the other. */
export function slow(prey: Prey, number: number, random: Random): Script {
  return (SLOW[number % SLOW.length] as Rule)(prey, random);
}

/** Of a host that is not served; by HTTP and by WebSocket. */
function foreignHost(_: Prey, random: Random): Script {
  const host = one(random, [
    ...['rebind.example', 'rebind.example:4000', '8.8.8.8', '[2001:db8::1]'],
    ...['localhost.rebind.example', '127.0.0.1.nip.example', `x${random(1000)}.example`],
  ]);
  const write = one(random, [upgrade(host), request(`GET ${one(random, [QUERY, '/metrics', '/'])}`, host)]);
  return rule('foreign host', [{ write }], { status: '421', closed: true });
}

/** From a page of another origin; by HTTP and by WebSocket. */
function foreignOrigin({ host }: Prey, random: Random): Script {
  const evil = ['http://evil.example', 'https://localhost.evil.example', 'http://evil.example:80', 'null'];
  const origin = `origin: ${one(random, evil)}\r\n`;
  const write = one(random, [upgrade(host, origin), request(`GET ${one(random, [QUERY, '/'])}`, host, origin)]);
  return rule('foreign origin', [{ write }], { status: '403', closed: true });
}

/** A signature that is valid but for something behind, before or beside it. */
function forgedLink({ host, links }: Prey, random: Random): Script {
  const link = one(
    random,
    links.filter((each) => each.includes('s=')),
  );
  const changed = one(random, [
    ...[`${link}==`, `${link}%0Ahttp://evil.example/`, `${link}==%0d%0ax:y`, `${link}&s=`],
    ...[link.replace('s=', 's=%20'), link.replace(/e=(\d+)/, 'e=$1.0'), link.replace(/e=(\d+)/, 'e=0$1')],
    link.replace(/e=(\d)/, (_, digit: string) => `e=${(Number(digit) + 1) % 10}`),
    link.replace(/s=[^&]*/, 's='),
  ]);
  return rule('forged link', [{ write: request(`GET ${changed}`, host, CLOSE) }], { status: '403' });
}

/** Targets that are no well-formed path: escapes above all, wherever they stand. */
function badTarget({ host, links }: Prey, random: Random): Script {
  const path = one(random, [
    '/graphql',
    '/',
    '/assets/x',
    '/sessions/x/index.m3u8',
    one(random, links).replace(/\?.*/, ''),
  ]);
  const at = 1 + random(path.length);
  const escape = one(random, [
    '%',
    '%z',
    '%zz',
    '%0',
    '%00',
    '%ff',
    '%c3',
    '%c3%28',
    '%E0%A4%A',
    '%ed%a0%80',
    '%C0%AF',
    '%f',
  ]);
  const target = one(random, [
    `${path.slice(0, at)}${escape}/${path.slice(at)}`,
    `${path.slice(0, at)}${escape}/${path.slice(at)}`,
    `${path.slice(0, at)}${one(random, ['\\', '#', '\x7f', '\xff'])}${path.slice(at)}`,
    one(random, ['//', `/${path}`, '///x', 'http://[/', 'ftp://x/', 'javascript:alert(1)', 'x', 'https:', '*']),
  ]);
  const write = one(random, [upgrade(host, '', target), request(`GET ${target}`, host)]);
  return rule('bad target', [{ write }], { status: '400', closed: true });
}

function badHeaders({ host }: Prey, random: Random): Script {
  const [status, write] = one<[string, string]>(random, [
    ['400', `GET / HTTP/1.1\r\n\r\n`],
    ['400', request('GET /', host, `host: ${host}\r\n`)],
    ['400', request('GET /', host, 'authorization: a\r\nauthorization: b\r\n')],
    [
      '400',
      request('GET /', one(random, ['[bad', 'a@b', 'a/b', '..', ':80', 'a:b', 'x'.repeat(300), '127.0.0.1:99999'])),
    ],
    [
      '400',
      request('GET /', host, `origin: ${one(random, ['[', 'x', 'http:', 'http://a b', '//x', 'http://x/y'])}\r\n`),
    ],
    ['405', request('CONNECT example.org:443', host)],
    ['417', request('GET /', host, 'expect: x\r\n')],
    ['431', request('GET /', host, `x: ${'y'.repeat(HEADER_BYTES + random(9000))}\r\n`)],
    ['431', request('GET /', host, `x: ${'y'.repeat(60)}\r\n`.repeat(HEADER_BYTES / 60 + 1 + random(100)))],
  ]);
  return rule('bad headers', [{ write }], { status, closed: true });
}

/** Handshakes that are refused, and left to the service to close. */
function badUpgrade({ host }: Prey, random: Random): Script {
  const [status, write] = one<[string, string]>(random, [
    ['404', upgrade(host, '', one(random, ['/nowhere', '/', '/graphql/', '/sessions/x']))],
    ['405', upgrade(host).replace('GET', one(random, ['POST', 'PUT', 'DELETE']))],
    ['400', upgrade(host).replace('version: 13', `version: ${one(random, ['12', '-1', '99999999999', 'x'])}`)],
    ['400', upgrade(host).replace('dGhl', one(random, ['', 'x', '====']))],
  ]);
  return rule('bad upgrade', [{ write }], { status, closed: true });
}

/** Another protocol is not spoken: the request is one of HTTP/1.1. */
function otherUpgrade({ host }: Prey, random: Random): Script {
  const other = one(random, ['h2c', 'websockets', 'WebSocket, x', 'TLS/1.2']);
  const write = upgrade(host, '', QUERY).replace('upgrade: websocket', `upgrade: ${other}`);
  return rule('other upgrade', [{ write }], { status: '200', closed: true });
}

/** Requests to /graphql that no parser may take for more than a mistake of the client. */
function badRequest({ host }: Prey, random: Random): Script {
  const json = encodeURIComponent(one(random, ['{', 'x', '[1', '{"a":}', "{'a':1}", '{}}', '\0', 'nul', '"', 'NaN']));
  const [status, write] = one<[string, string]>(random, [
    ['400', request(`GET ${QUERY}&variables=${json}`, host, CLOSE)],
    ['400', request(`GET ${QUERY}&extensions=${json}`, host, CLOSE)],
    ['400', post(host, [{ query: '{ __typename }' }, { query: '{ __typename }' }], CLOSE)],
    [
      '415',
      post(host, { query: '{ __typename }' }, CLOSE).replace(
        'application/json',
        one(random, ['text/plain', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded']),
      ),
    ],
    ['413', post(host, { query: '{ __typename }', variables: { x: 'x'.repeat(BODY_BYTES + random(9000)) } }, CLOSE)],
  ]);
  return rule('bad request', [{ write }], { status });
}

/** Operations that cost too much, over HTTP, as a stream, and over WebSocket. */
function costly({ host, sessionId }: Prey, random: Random): Script {
  const id = `Session:${sessionId}`;
  const aliased = (count: number, field: string) =>
    Array.from({ length: count }, (_, at) => `a${at}: ${field}`).join(' ');
  const count = ALIASES + 1 + random(40);
  const types =
    '__schema { types { name fields { name args { name type { name } } type { name ofType { name ofType { name } } } } } }';
  const levels = Array.from({ length: 30 }, (_, at) => `fragment F${at} on Session { ...F${at + 1} ...F${at + 1} }`);
  const body = one<{ query: string; variables?: object }>(random, [
    {
      query: 'query ($i: [ID!]!) { nodes(ids: $i) { id ... on Session { receipts { prompt } } } }',
      variables: { i: Array.from({ length: 100 + random(3000) }, () => id) },
    },
    {
      query:
        'query ($n: Int) { sessions(first: $n) { ... on SessionConnection { nodes { timeline { prompt block } } } } }',
      variables: { n: 60 + random(100_000) },
    },
    { query: `{ ${aliased(count, one(random, ['models { id }', 'service { version }', '__typename']))} }` },
    { query: `{ ${aliased(ALIASES, types)} }` },
    { query: `mutation { ${aliased(count, `switchPrompt(sessionId: "${sessionId}", prompt: "x") { __typename }`)} }` },
    { query: `${levels.join(' ')} fragment F30 on Session { id } { session(id: "${sessionId}") { ...F0 } }` },
    { query: `# ${'x'.repeat(65_536)}\n{ __typename }` },
  ]);
  const says = 'OPERATION_LIMIT';
  if (random(3) === 0) {
    const subscribe = frame(1, JSON.stringify({ id: '1', type: 'subscribe', payload: body }));
    const steps = [
      { write: upgrade(host) },
      { write: INIT },
      LOGGED_IN,
      { write: subscribe },
      { until: '"id"' },
      { write: GOODBYE },
    ];
    return rule('costly, WebSocket', steps, { says });
  }
  const accept = one(random, [
    '',
    'accept: application/json\r\n',
    'accept: text/event-stream\r\n',
    'accept: application/graphql-response+json\r\n',
  ]);
  return rule('costly', [{ write: post(host, body, accept + CLOSE) }], { says });
}

const LOGGED_IN = { until: 'connection_ack' };
const GOODBYE = frame(8, '\x03\xe8');

/** Pages that may not be put into others', nor run what is not theirs. */
function page({ host }: Prey): Script {
  const write = request('GET /graphql', host, `accept: text/html\r\n${CLOSE}`);
  return rule('page', [{ write }], { status: '200', says: "frame-ancestors 'none'" });
}

/** Everything at once on one connection. */
function pipelined({ host }: Prey, random: Random): Script {
  const write = post(host, { query: '{ service { version } }' });
  return rule('pipelined', [{ write: write.repeat(PIPELINED + 1 + random(60)) }], {
    mostServed: PIPELINED,
    closed: true,
  });
}

function operations({ host, sessionId }: Prey, random: Random): Script {
  const says = 'operations may run on one WebSocket';
  const payload = { query: `subscription { sessionStream(sessionId: "${sessionId}") { __typename } }` };
  const many = Array.from({ length: OPERATIONS + 1 + random(20) }, (_, id) =>
    frame(1, JSON.stringify({ id: `${id}`, type: 'subscribe', payload })),
  );
  const steps = [{ write: upgrade(host) }, { write: INIT }, LOGGED_IN, { write: many.join('') }, { until: says }];
  return rule('operations', [...steps, { write: GOODBYE }], { says });
}

/** What graphql-transport-ws does not allow, before the login or behind it. */
function outOfOrder({ host }: Prey, random: Random): Script {
  const text = (message: object) => frame(1, JSON.stringify(message));
  const subscribe = text({ id: '1', type: 'subscribe', payload: { query: '{ __typename }' } });
  const [code, write] = one<[number, string]>(random, [
    [4401, subscribe],
    [4400, frame(1, one(random, ['{', '[]', 'null', '7', '"x"', '{"type":"nothing"}', '{}']))],
    [1009, frame(1, 'x'.repeat(LOGIN_BYTES + 1 + random(LOGIN_BYTES)))],
    [1009, INIT + frame(1, 'x'.repeat(BODY_BYTES + 1 + random(BODY_BYTES)))],
    [4429, INIT + INIT],
    [4400, INIT + text({ id: '1', type: one(random, ['next', 'error', 'connection_ack']), payload: [] })],
    [4400, INIT + frame(1, '{')],
  ]);
  return rule('out of order', [{ write: upgrade(host) }, { write }], { closed: true, says: closing(code) });
}

/** How the code stands in the frame of a goodbye. */
const closing = (code: number) => String.fromCharCode(code >> 8, code & 255);

/** A WebSocket that is written to and never read, before its login or behind it. */
function unread({ host }: Prey, random: Random): Script {
  const write = frame(9, 'p'.repeat(one(random, [125, 125, 100])));
  const login = random(2) === 0 ? [{ write: INIT }, { wait: 50 }] : [];
  const steps = [{ write: upgrade(host) }, ...login, { write, times: Math.ceil(FLOOD_BYTES / write.length) }];
  return rule('flood, unread', steps, { closed: true }, { unread: true });
}

/** A body or message in more pieces than anybody would take for one. */
function pieces({ host }: Prey, random: Random): Script {
  const count = PIECES + 1 + random(20_000);
  if (random(2) === 0) {
    const headers = 'content-type: application/json\r\ntransfer-encoding: chunked\r\n';
    const write = request('POST /graphql', host, headers, '1\r\n \r\n'.repeat(count));
    return rule('pieces', [{ write }], { status: '413', closed: true });
  }
  const write = frame(1, 'x', { last: false }) + frame(0, 'x', { last: false }).repeat(count);
  const steps = [{ write: upgrade(host) }, { write: INIT }, LOGGED_IN, { write }];
  return rule('pieces, WebSocket', steps, { closed: true, says: closing(1008) });
}

/** Whose repair takes as many rounds as it has characters; that others wait for it is seen by the healthy client. */
function damagedPrompt({ host }: Prey, random: Random): Script {
  const [a, b] = one<[string, string]>(random, [
    ['\\u00c2', '\\u2018'],
    ['\\u00c2', '\\u201a'],
    ['\\u00c3', '\\u201a'],
  ]);
  const prompt = a.repeat(1000 + random(400)) + b.repeat(600);
  const query = `mutation { createSession(input: { prompt: "${prompt}", pace: FASTEST, maxSeconds: 1 }) { __typename } }`;
  return rule('damaged prompt', [{ write: post(host, { query }, CLOSE) }], { status: '200' });
}

/** Before the login it may send little, even where it reads what comes of it. */
function strangersFlood({ host }: Prey, random: Random): Script {
  const [begin, write] = one<[string, string]>(random, [
    ['', frame(9, 'p'.repeat(125))],
    ['', frame(10, 'p'.repeat(100))],
    [frame(1, 'x', { last: false }), frame(0, 'y'.repeat(9000), { last: false })],
  ]);
  const times = Math.ceil((4 * LOGIN_BYTES) / write.length);
  const steps = [{ write: upgrade(host) + begin }, { write, times }];
  return rule('flood before the login', steps, { closed: true, says: closing(1009) });
}

/** As many WebSockets of one address without a login as there are; whatever they say of proxies. */
function strangers({ host }: Prey, random: Random): Script {
  const headers = one(random, ['', `x-forwarded-for: 10.0.0.${random(256)}\r\n`]);
  return rule('strangers', [{ write: upgrade(host, headers) }], { mostServed: STRANGERS }, { crowd: STRANGERS + 8 });
}

/** From anybody but the trusted proxy, another address for each WebSocket: all the same one's. */
function pretenders({ host }: Prey): Script {
  const forms = Array.from({ length: STRANGERS + 8 }, (_, at) => `198.51.100.${at}`);
  const write = upgrade(host, 'x-forwarded-for: @@\r\n');
  return rule('pretenders', [{ write }], { mostServed: STRANGERS }, { crowd: forms.length, forms });
}

/** By way of the trusted proxy: one client's, however its address is written and whatever it said before it. */
function behindProxy({ host }: Prey, random: Random): Script {
  const [v4, v6] = [`198.51.100.${random(256)}`, `2001:db8:${random(9999)}:1`];
  const forms = one(random, [
    [
      v4,
      `${v4}:@`,
      `6.6.6.@, ${v4}`,
      `,,${v4} , `,
      `unknown, ::ffff:${v4}`,
      `[::ffff:${v4}]:80`,
      `${v4}:1, ${TRUSTED_PROXY}`,
    ],
    [`${v6}::@`, `[${v6}::@]:80`, `${v6}:0:0:0:@`, `[${v6}::1]`, `x, ${v6}::%eth0`],
  ]);
  const varied = Array.from({ length: STRANGERS + 8 }, (_, at) =>
    (forms[at % forms.length] as string).replace('@', `${at + 1}`),
  );
  const write = upgrade(host, 'x-forwarded-for: @@\r\n');
  return rule(
    'behind a proxy',
    [{ write }],
    { mostServed: STRANGERS },
    { crowd: varied.length, forms: varied, from: TRUSTED_PROXY },
  );
}

/** By way of the trusted proxy: as many clients as sockets, each of which may have one. */
function manyBehindProxy({ host }: Prey, random: Random): Script {
  const network = `203.0.${random(256)}`;
  const forms = Array.from({ length: STRANGERS + 8 }, (_, at) => `${network}.${at}${at % 2 ? `:${1024 + at}` : ''}`);
  const write = upgrade(host, 'x-forwarded-for: @@\r\n');
  const more = { crowd: forms.length, forms, from: TRUSTED_PROXY };
  return rule('many behind a proxy', [{ write }], { neverSays: 'TOO_MANY_SOCKETS' }, more);
}

/** Of a kind that costs little and says much. */
function tooLarge({ host }: Prey, random: Random): Script {
  const fields = one(random, ['name fields { name description }', 'name fields { name type { name kind } }']);
  const body = { query: `{ __schema { types { ${fields} } } }` };
  const accept = one(random, ['', 'accept: application/json\r\n', 'accept: text/event-stream\r\n']);
  const says = `exceeds the limit of ${MAX_ANSWER_BYTES} bytes`;
  return rule('too large an answer', [{ write: post(host, body, accept + CLOSE) }], { says });
}

/** More operations than the service can take at once, and behind them somebody who only wants to know whether it lives. */
function crowded({ host, sessionId }: Prey): Script {
  const query = `subscription { sessionStream(sessionId: "${sessionId}") { __typename } }`;
  const write = post(host, { query }, 'accept: text/event-stream\r\n');
  const expect = { overtakenBy: request('GET /healthz', host, CLOSE), overtakenWithin: 0.5 };
  return rule('crowd of operations', [{ write }], expect, { crowd: 150, end: 'reset' });
}

/** As many connections that say nothing as there may be. */
function silentCrowd({ host }: Prey): Script {
  const expect = { overtakenBy: request('GET /healthz', host, CLOSE) };
  return rule('silent crowd', [], expect, { crowd: MAX_CONNECTIONS + 100, patience: 2000, end: 'reset' });
}

/** Headers that do not come, whole or at all. */
function slowHeaders({ host }: Prey, random: Random): Script {
  const whole = one(random, [request('GET /', host), upgrade(host)]);
  const write = whole.slice(0, one(random, [0, 1 + random(whole.length - 3)]));
  return rule('slow headers', write === '' ? [] : [{ write }], { closed: true }, { patience: 8000 });
}

/** A byte now and then. */
function trickled({ host }: Prey, random: Random): Script {
  const body = random(2) === 0;
  const begin = body
    ? post(host, { query: '{ __typename }' }).replace(/\r\n\r\n.*/, '\r\n\r\n{')
    : 'GET / HTTP/1.1\r\nx: ';
  const piece: Step[] = [{ write: ' ' }, { wait: 500 }];
  return rule(
    'trickled',
    [{ write: begin }, ...Array.from({ length: 12 }, () => piece).flat()],
    { closed: true },
    { patience: 2 * PATIENCE_MS },
  );
}

function slowBody({ host }: Prey, random: Random): Script {
  const whole = post(host, { query: '{ __typename }' });
  const chunked = request(
    'POST /graphql',
    host,
    'content-type: application/json\r\ntransfer-encoding: chunked\r\n',
    '9\r\n{"que',
  );
  return rule(
    'slow body',
    [{ write: one(random, [whole.slice(0, -1 - random(9)), chunked]) }],
    { closed: true },
    { patience: 2 * PATIENCE_MS },
  );
}

/** Served once, and kept open. */
function idle({ host }: Prey, random: Random): Script {
  const write = one(random, [request('GET /healthz', host), post(host, { query: '{ __typename }' })]);
  return rule('idle', [{ write }], { status: '200', closed: true });
}

/** A message that never ends, with pings between its fragments. */
function slowMessage({ host }: Prey): Script {
  const piece: Step[] = [{ write: frame(9, 'x') }, { wait: 1000 }, { write: frame(0, 'y', { last: false }) }];
  const steps = [{ write: upgrade(host) }, { write: INIT }, LOGGED_IN, { write: frame(1, 'x', { last: false }) }];
  const message = Array.from({ length: SHORT_TIMES.BODY_SECONDS }, () => piece).flat();
  return rule('slow message', [...steps, ...message], { closed: true }, { patience: 2 * PATIENCE_MS });
}

/** Never logs in, but answers pings and sends some. */
function slowLogin({ host }: Prey, random: Random): Script {
  const steps: Step[] =
    random(2) === 0 ? [] : [{ wait: 500 }, { write: frame(9, 'x') }, { wait: 900 }, { write: frame(10, '') }];
  return rule('slow login', [{ write: upgrade(host) }, ...steps], { closed: true });
}

const RULES: readonly Rule[] = [
  ...[
    foreignHost,
    foreignOrigin,
    forgedLink,
    badTarget,
    badTarget,
    badHeaders,
    badUpgrade,
    otherUpgrade,
    badRequest,
    badRequest,
  ],
  ...[costly, costly, costly, pipelined, operations, outOfOrder, outOfOrder, unread, strangersFlood, strangers, page],
  ...[pretenders, behindProxy, manyBehindProxy, tooLarge, pieces, damagedPrompt],
];

const SLOW: readonly Rule[] = [slowHeaders, slowBody, slowMessage, crowded, idle, slowLogin, trickled, silentCrowd];
