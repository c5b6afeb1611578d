/** A path of this machine, in the words of an error: `/data/models/x`, `./x`, `file:///x`; no address of the web. */
const PATH = /(?<![\w:/.~-])(?:file:\/\/|\.{1,2}|~)?\/(?=[\w.@~-])[^\s"'`(),;:]*/g;

/** Where the store keeps something: `sessions/<id>/log/000003.jsonl`, `by-date/…`. */
const KEY =
  /(?<![\w/.:-])(sessions|unfinished|servers|exporting|deleting|by-date|deployment)\/([\w-]*)(?:\/([\w./-]*\w))?/g;
const KEY_BESIDE = new RegExp(` \\((?:${KEY.source})\\)`, 'g');

const FILES: readonly (readonly [RegExp, string])[] = [
  [/^session\.json/, 'the record'],
  [/^log\//, 'the log'],
  [/^chunks\//, 'a chunk'],
  [/^checkpoints\//, 'a checkpoint'],
  [/^exports\//, 'an export'],
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
  if (folder !== 'sessions') return "an entry of the store's index";
  const [, what = 'a file'] = FILES.find(([pattern]) => pattern.test(file)) ?? [];
  return id === '' ? 'a session' : `${what} of session ${id}`;
}

const begun = (text: string, at: number): string => (at === 0 ? text.charAt(0).toUpperCase() + text.slice(1) : text);
