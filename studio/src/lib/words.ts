/** What the page says of a session, in words. */
import {
  AtCapacityError,
  ConnectionError,
  type Failure,
  type PlayerState,
  type PlayerStats,
  type SessionFacts,
  type State,
} from '@longlive/client';

type StateReason = SessionFacts['reason'];

export interface Headline {
  /** A word or two, over the picture. */
  readonly text: string;
  readonly tone: 'live' | 'calm' | 'wait' | 'bad';
  /** Why, and what to do; where the word alone does not say. */
  readonly detail?: string;
}

export const LATE_SECONDS = 5;

export function headline(state: State, player: PlayerState, stats: Pick<PlayerStats, 'speed'>): Headline {
  switch (state.status) {
    case 'connecting':
      return { text: 'Connecting', tone: 'wait' };
    case 'queued':
      return queued(state);
    case 'starting':
      return { text: 'Starting', tone: 'wait', detail: 'The model is loaded, and the first pictures are made.' };
    case 'live':
      return playing(player, stats);
    case 'paused':
      return { text: 'Paused', tone: 'calm', detail: pausedWords(state.reason, state.failure) };
    case 'reconnecting':
      return {
        ...{ text: 'Reconnecting', tone: 'wait' },
        detail: 'The service cannot be reached. This page tries again by itself; nothing is lost.',
      };
    case 'ended':
      return ended(state);
    case 'lost':
      return { text: 'Gone', tone: 'bad', detail: lostWords(state.error) };
  }
}

function queued({ place, waitSeconds }: Extract<State, { status: 'queued' }>): Headline {
  const where = place === null ? '' : `, place ${place}`;
  const long = waitSeconds === null ? '' : ` That takes about ${aboutSeconds(waitSeconds)}.`;
  return {
    ...{ text: `Waiting in line${where}`, tone: 'wait' },
    detail: `All places are taken. It begins by itself as soon as one is free.${long}`,
  };
}

const aboutSeconds = (seconds: number): string =>
  seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} minutes`;

function playing(player: PlayerState, { speed }: Pick<PlayerStats, 'speed'>): Headline {
  if (player.status !== 'buffering') return { text: 'Live', tone: 'live' };
  const rate = speed < 0.95 ? `${speed.toFixed(1)}×, ` : '';
  return {
    text: `${rate}buffering ${player.seconds} s`,
    tone: 'wait',
    detail: rate ? 'Pictures come more slowly than they play. It goes on when there are enough of them.' : '',
  };
}

function pausedWords(reason: StateReason, failure: Failure | null): string {
  switch (reason) {
    case 'IDLE':
      return 'Paused because nobody watched. Press Resume to go on.';
    case 'WORKER_LOST':
      return 'The server that made it has stopped. Nothing is lost: press Resume to go on.';
    case 'STORAGE':
      return `The store does not take the video. ${failure?.message ?? ''} Press Resume when that is mended.`;
    case 'MODEL':
      return `The model cannot be loaded. ${failure?.message ?? ''} Press Resume when that is mended.`;
    default:
      return failure?.message ?? '';
  }
}

const ENDED = { COMPLETED: 'Complete', STOPPED: 'Stopped', FAILED: 'Failed' } as const;

function ended({ as, reason, failure }: Extract<State, { status: 'ended' }>): Headline {
  const text = ENDED[as];
  if (as === 'FAILED')
    return { text, tone: 'bad', detail: failure?.message ?? 'It failed; what was made until then is kept.' };
  if (reason === 'MODEL_END')
    return { text, tone: 'calm', detail: 'The model cannot make it longer. A cut would have let it begin anew.' };
  return { text, tone: 'calm' };
}

function lostWords(error: Error): string {
  const gone = 'code' in error && error.code === 'NOT_FOUND';
  return gone ? 'There is no such session any more. It was deleted, or the link is wrong.' : error.message;
}

export interface Problem {
  readonly text: string;
  /** The setting that is wrong. */
  readonly field?: string;
  /** There is a line in which one may wait for what was refused. */
  readonly full?: boolean;
  /** It is over when the service can be reached again. */
  readonly passing?: boolean;
}

/** An error, for the person who caused it. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ConnectionError)
    return { text: 'The service cannot be reached. Your text is kept: try again in a moment.', passing: true };
  if (error instanceof AtCapacityError)
    return {
      text: `${error.message} Your text is kept: try again in ${Math.ceil(error.retryAfterSeconds)} s.`,
      full: true,
    };
  const { message, field } = error as Error & { field?: string | null };
  // The page asks for a time by no such name.
  const text = message.replace(/^atSeconds\b/, 'Second');
  return field ? { text, field } : { text };
}
