/** One TCP connection as a script that can be printed, kept and sent again, and what is wrong with its answer. */

import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Bytes are Latin-1 texts. */
export type Step = { write: string } | { wait: number };

export interface Script {
  kind: string;
  steps: Step[];
  /** Afterwards: close our half and read on, cut the connection off, at once or when an answer begins, or hold it open. */
  end: 'half-close' | 'reset' | 'reset when answered' | 'hold';
  /** How long an answer is waited for after the last step, in milliseconds. */
  patience: number;
  /** Nothing of the answer is taken while the script runs. */
  unread?: boolean;
  /** What must not be served: an answer of 1xx or 2xx is wrong. */
  forbidden?: boolean;
}

/** More of an answer is counted, not kept. */
const KEPT_BYTES = 2 ** 20;
const CONNECT_MS = 10_000;

/** What the service answered, as Latin-1. Rejects only when it takes no connection. */
export async function send(url: string, { steps, end, patience, unread }: Script): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
  const parts: Buffer[] = [];
  let kept = 0;
  const take = (bytes: Buffer) => {
    if (kept < KEPT_BYTES) parts.push(bytes);
    kept += bytes.length;
  };
  if (!unread) socket.on('data', take);
  const over = new Promise<void>((resolve) => {
    socket.once('end', () => resolve());
    socket.once('close', () => resolve());
    if (end === 'reset when answered') socket.once('data', () => resolve());
  });
  const opened = new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', reject);
    socket.setTimeout(CONNECT_MS, () => reject(new Error('no connection within 10 s')));
  });
  try {
    await opened;
    socket.setTimeout(0);
    socket.on('error', () => undefined);
    for (const step of steps) {
      if ('wait' in step) await sleep(step.wait);
      else if (socket.writable) socket.write(step.write, 'latin1');
    }
    if (end === 'half-close') socket.end();
    const tired = new AbortController();
    await Promise.race([over, sleep(patience, undefined, { signal: tired.signal })]);
    tired.abort();
  } finally {
    if (end.startsWith('reset')) socket.resetAndDestroy();
    else socket.destroy();
  }
  return Buffer.concat(parts).toString('latin1');
}

const STACK = /(?:\n|\\n)\s+at (?:async )?\S[^\n"]{0,200}?:\d+:\d+\)?/;
const OWN_FAULT = /Something went wrong inside|INTERNAL_SERVER_ERROR|Unexpected error/;

/** What a stranger must not be told: statuses of our own faults, stacks and any of the texts (paths of the server). */
export function complaintAbout(answer: string, secrets: readonly string[]): string | undefined {
  for (const [, status] of answer.matchAll(/(?:^|\r\n|[}\]>])HTTP\/1\.1 (5\d\d) /g))
    if (status !== '503') return `status ${status}`;
  const closed = closeCodeOf(answer);
  if (closed === 1011 || closed === 4500) return `WebSocket closed with ${closed}`;
  if (!/content-type: text\/(?:html|javascript)/i.test(answer) && STACK.test(answer)) return 'a stack';
  const own = OWN_FAULT.exec(answer);
  if (own) return `"${own[0]}"`;
  const secret = secrets.find((text) => answer.includes(text));
  return secret === undefined ? undefined : `the path ${secret}`;
}

/** Of the close frame behind an upgrade, if there is one. */
function closeCodeOf(answer: string): number | undefined {
  if (!answer.startsWith('HTTP/1.1 101')) return undefined;
  const bytes = Buffer.from(answer, 'latin1');
  for (let at = answer.indexOf('\r\n\r\n') + 4; at >= 4 && at + 2 <= bytes.length;) {
    const [opcode, short] = [(bytes[at] as number) & 15, (bytes[at + 1] as number) & 127];
    const wide = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (at + 2 + wide > bytes.length) return undefined;
    const length = wide === 0 ? short : wide === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const body = at + 2 + wide;
    if (opcode === 8) return body + 2 <= bytes.length ? bytes.readUInt16BE(body) : undefined;
    at = body + length;
  }
  return undefined;
}
