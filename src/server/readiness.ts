import { withoutPaths } from '../api/index.js';
import type { ObjectStore, Sessions, Logger } from '../sessions/index.js';

/** What strangers hear when the store does not answer; what it said has paths, buckets and addresses in it. */
const STORE_FAILS = 'The store cannot be reached or written to; see the log for the reason.';

const KEYS_UNREAD = 'The API keys have not been read from the store yet; that is tried again by itself.';

const ISSUER_UNREAD =
  "The identity provider's keys (jwtJwks) have not been fetched yet, so its tokens are not taken; that is tried again by itself.";

/** A store that takes longer does not answer. */
const CHECK_SECONDS = 5;

const monotonic = (): number => performance.now();

export interface ReadinessParts {
  sessions: Pick<Sessions, 'status'>;
  store: Pick<ObjectStore, 'check'>;
  /** While it is not known who may call, callers without the token are turned away. */
  credentials: { readonly undecided: boolean; readonly issuerSilent?: boolean };
  /** How long an answer of the store holds. */
  seconds: number;
  log: Logger;
  /** Milliseconds of a clock that nobody sets. */
  now?: () => number;
}

/**
 * Whether the service should be sent work. Anybody may ask as often as they like: the store is asked by one at a time, and
 * its answer holds for a while.
 */
export class Readiness {
  private answer: { store: string | undefined; until: number } | undefined;
  private asking: Promise<string | undefined> | undefined;
  private dropped: string | undefined;

  constructor(private readonly parts: ReadinessParts) {}

  /** Not ready from now on, for a reason that strangers may read. */
  drop(reason: string): void {
    this.dropped = reason;
  }

  /** Nothing when ready. `trusted` hears what the store itself says. */
  async problems(trusted: boolean): Promise<string[]> {
    if (this.dropped !== undefined) return [this.dropped];
    const { credentials } = this.parts;
    const { accepting, detail, warning } = this.parts.sessions.status();
    const store = await this.store();
    return [
      ...(accepting || warning !== undefined ? [] : [withoutPaths(detail ?? 'Not accepting sessions.')]),
      ...(store === undefined ? [] : [trusted ? `Store: ${store}` : STORE_FAILS]),
      ...(store === undefined && credentials.undecided ? [KEYS_UNREAD] : []),
    ];
  }

  /** What is wrong elsewhere: another server would do no better, so it is no reason to send it no work. */
  warnings(): string[] {
    const { warning } = this.parts.sessions.status();
    return [
      ...(warning === undefined ? [] : [withoutPaths(warning)]),
      ...(this.parts.credentials.issuerSilent === true ? [ISSUER_UNREAD] : []),
    ];
  }

  private async store(): Promise<string | undefined> {
    const { now = monotonic } = this.parts;
    if (this.answer && now() < this.answer.until) return this.answer.store;
    this.asking ??= this.ask().finally(() => (this.asking = undefined));
    return within(this.asking, CHECK_SECONDS);
  }

  private async ask(): Promise<string | undefined> {
    const { store, seconds, log, now = monotonic } = this.parts;
    let problem: string | undefined;
    try {
      await store.check();
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
      if (this.answer?.store !== problem) log.error({ error }, 'The store does not answer');
    }
    if (problem === undefined && this.answer?.store !== undefined) log.info({}, 'The store answers again');
    this.answer = { store: problem, until: now() + seconds * 1000 };
    return problem;
  }
}

async function within(answer: Promise<string | undefined>, seconds: number): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${seconds} seconds`), seconds * 1000);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}
