import { keysOf, SESSIONS, STORE_PREFIXES } from '../sessions/index.js';

/** A path of this machine, in the words of an error: `/data/models/x`, `./x`, `file:///x`; no address of the web. */
const PATH = /(?<![\w:/.~-])(?:file:\/\/|\.{1,2}|~)?\/(?=[\w.@~-])[^\s"'`(),;:]*/g;

/** Where the store keeps something: `sessions/<id>/log/000003.jsonl`, `by-date/…`. */
const KEY = new RegExp(`(?<![\\w/.:-])(${STORE_PREFIXES.join('|')})([\\w-]*)(?:\\.json\\b)?(?:/([\\w./-]*\\w))?`, 'g');
const KEY_BESIDE = new RegExp(` \\((?:${KEY.source})\\)`, 'g');

const KEYS = keysOf('');
const FILES: readonly (readonly [string, string])[] = [
  [KEYS.record, 'the record'],
  [KEYS.log, 'the log'],
  [KEYS.chunks, 'a chunk'],
  [KEYS.checkpoints, 'a checkpoint'],
  [KEYS.exports, 'an export'],
];

/** What a client may read of an error: a file by its name, and what the store keeps by what it is. The log has all of it. */
export function withoutPaths(message: string): string {
  return message
    .replace(KEY_BESIDE, '')
    .replace(KEY, (_, folder: string, id: string, file: string | undefined, at: number) =>
      begun(named(folder, id, file ?? ''), at),
    )
    .replace(PATH, (path) => path.replace(/\/+$/, '').split('/').at(-1) ?? '');
}

function named(folder: string, id: string, file: string): string {
  if (folder !== SESSIONS) return "an entry of the store's index";
  const [, what = 'a file'] = FILES.find(([key]) => (KEYS.prefix + file).startsWith(key)) ?? [];
  return id === '' ? 'a session' : `${what} of session ${id}`;
}

const begun = (text: string, at: number): string => (at === 0 ? text.charAt(0).toUpperCase() + text.slice(1) : text);
