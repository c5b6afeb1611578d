/** What the page does at the service, where that takes more than one request. */
import { AtCapacityError, type CreateOptions, type ForkOptions, type Session } from '@longlive/client';
import { live, withToken } from './live';

/** Sessions that this page left while they ran. */
const left = new Set<string>();
/** How long a subscription that was ended may count at the service. */
const TRIES = 8;
const TRY_MS = 150;

export const leave = (session: Session): void => void left.add(session.id);
export const comeBack = (session: Session): void => void left.delete(session.id);

export interface Made {
  readonly session: Session;
  /** Sessions of this page that were paused to make room. */
  readonly paused: number;
}

/** Creates a session. Where there is no room, what this page left and nobody else watches is paused first. */
export async function create(options: CreateOptions): Promise<Made> {
  return withToken(async () => {
    try {
      return { session: await live.create(options), paused: 0 };
    } catch (error) {
      if (!(error instanceof AtCapacityError)) throw error;
      const paused = await pauseLeft();
      if (paused === 0) throw error;
      return { session: await live.create(options), paused };
    }
  });
}

/** Whether a fork needs the place of the session itself, and nobody else would miss it. */
export async function fork(session: Session, options: ForkOptions): Promise<Made | 'needs its place'> {
  try {
    return { session: await session.fork(options), paused: 0 };
  } catch (error) {
    if (!(error instanceof AtCapacityError)) throw error;
    const paused = await pauseLeft();
    if (paused > 0) return { session: await session.fork(options), paused };
    const { state } = await session.refresh();
    if (!isRunning(state)) throw error;
    return 'needs its place';
  }
}

async function pauseLeft(): Promise<number> {
  const outcomes = await Promise.all([...left].map((id) => pauseUnwatched(id).catch(() => false)));
  return outcomes.filter(Boolean).length;
}

async function pauseUnwatched(id: string): Promise<boolean> {
  const session = await live.session(id);
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const { state, viewers, pace } = await session.refresh();
    if (!isRunning(state) || pace === 'FASTEST') return false;
    if (viewers === 0) {
      await session.pause();
      left.delete(id);
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, TRY_MS));
  }
  return false;
}

const isRunning = (state: string): boolean => ['QUEUED', 'STARTING', 'LIVE'].includes(state);
