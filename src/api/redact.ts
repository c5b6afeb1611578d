/** A path of this machine, in the words of an error: `/data/models/x`, `./x`, `file:///x`; no address of the web. */
const PATH = /(?<![\w:/.~-])(?:file:\/\/|\.{1,2}|~)?\/(?=[\w.@~-])[^\s"'`(),;:]*/g;

/** What a client may read of an error: a file by its name, not where it lies on the server. The log has all of it. */
export function withoutPaths(message: string): string {
  return message.replace(PATH, (path) => path.replace(/\/+$/, '').split('/').at(-1) ?? '');
}
