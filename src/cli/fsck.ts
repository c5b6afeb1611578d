import { Command } from 'commander';
import { createMediaFactory } from '../media/index.js';
import { counted } from '../import/index.js';
import { loadConfig } from '../server/config.js';
import { Checker, type Finding, isSessionId, type SessionReport } from '../sessions/index.js';
import { openExistingStore } from './backend.js';
import { EXIT, Failure } from './failure.js';
import { addSettings } from './settings.js';
import { print, printable } from './terminal.js';

interface Flags extends Record<string, unknown> {
  all?: boolean;
  repair?: boolean;
  json?: boolean;
}

/** `longlive fsck`: whether what is stored of sessions agrees, without a model or a device. */
export function fsckCommand(): Command {
  const command = new Command('fsck')
    .description('check that the log, chunks, checkpoints and artifacts of sessions agree; exits with 1 if they do not')
    .argument('[session...]', 'ids of sessions')
    .option('--all', 'check every session in the store and its indexes')
    .option('--repair', 'repair what can be repaired: rebuild artifacts and indexes, remove orphaned objects')
    .option('--json', 'print one JSON object per session, one per line');
  return addSettings(command, ['store', 's3Endpoint', 's3Region', 'deployment']).action(fsck);
}

async function fsck(ids: string[], flags: Flags): Promise<void> {
  if ((ids.length === 0) === !flags.all) {
    throw new Failure(EXIT.usage, 'No session given. Name session ids, or use --all.');
  }
  // The API calls them `Session:<id>`.
  const sessions = ids.map((id) => id.replace(/^Session:/, ''));
  const unknown = sessions.find((id) => !isSessionId(id));
  if (unknown !== undefined) throw new Failure(EXIT.usage, `"${unknown}" is not a session id.`);
  const config = loadConfig(process.env, flags);
  const store = openExistingStore(config);
  await using media = createMediaFactory();
  const tally = { checked: 0, wrong: 0, newer: 0 };
  const checker = new Checker({ store, media }, { repair: flags.repair === true, deployment: config.deployment });
  await checker.confirm();
  for await (const report of flags.all ? checker.all() : each(checker, sessions)) {
    print(flags.json ? `${JSON.stringify(report)}\n` : textOf(report));
    tally.checked++;
    if (report.newer) tally.newer++;
    else if (report.findings.some(({ repaired }) => !repaired)) tally.wrong++;
  }
  // Whoever reads JSON counts lines.
  if (tally.checked === 0 && !flags.json) print(`There are no sessions in ${config.store}.\n`);
  const verdict = verdictOf(tally);
  if (verdict !== '') throw new Failure(EXIT.damaged, verdict);
}

function verdictOf({ checked, wrong, newer }: { checked: number; wrong: number; newer: number }): string {
  return [
    wrong > 0 && `${wrong} of ${checked} checked sessions are damaged.`,
    newer > 0 && `${newer} of ${checked} cannot be read by this release; a later one wrote them.`,
  ]
    .filter(Boolean)
    .join(' ');
}

async function* each(checker: Checker, ids: readonly string[]): AsyncGenerator<SessionReport> {
  for (const id of ids) yield await checker.session(id);
}

function textOf({ sessionId, chunks, checkpoints, state, deleted, newer, findings }: SessionReport): string {
  if (deleted && findings.length === 0) return `${sessionId}: deleted\n`;
  const what =
    state === undefined ? '' : ` (${state}, ${counted(chunks, 'chunk')}, ${counted(checkpoints, 'checkpoint')})`;
  if (findings.length === 0) return `${sessionId}: whole${what}\n`;
  const verdict = newer ? 'not readable by this release' : counted(findings.length, 'problem');
  return [`${sessionId}: ${verdict}${what}`, ...findings.map(lineOf), ''].join('\n');
}

function lineOf(finding: Finding): string {
  return printable(`  ${finding.key} ${finding.problem} (${outcomeOf(finding)})`);
}

function outcomeOf({ remedy, obstacle, repaired }: Finding): string {
  if (repaired) return `repaired: ${remedy}`;
  if (obstacle !== undefined) return remedy === undefined ? obstacle : `not repaired: ${obstacle}`;
  return remedy === undefined ? 'cannot be repaired' : 'see --repair';
}
