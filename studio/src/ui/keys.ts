import { useEffect } from 'preact/hooks';
import type { Watch } from '../lib/watch';
import { fullScreen, pictureInPicture, skip, step, toggle } from './playback';

/** What keys do, as it is told to people. */
export const KEYS: readonly (readonly [string, string])[] = [
  ['Space, K', 'play or pause'],
  ['J, L', '10 seconds back, forward'],
  ['←, →', '5 seconds back, forward'],
  [', .', 'one frame back, forward'],
  ['Home, End', 'the start, the live edge'],
  ['/', 'write a prompt'],
  ['F', 'full screen'],
  ['C', 'caption'],
  ['I', 'picture in picture'],
];

interface Doing {
  caption: () => void;
  write: () => void;
}

function actionOf(key: string, watch: Watch, { caption, write }: Doing): (() => void) | undefined {
  const { player } = watch;
  const actions: Record<string, () => void> = {
    ' ': () => toggle(watch),
    k: () => toggle(watch),
    j: () => skip(watch, -10),
    l: () => skip(watch, 10),
    ArrowLeft: () => skip(watch, -5),
    ArrowRight: () => skip(watch, 5),
    ',': () => step(watch, -1),
    '.': () => step(watch, 1),
    Home: () => player.seek(0),
    End: () => player.goLive(),
    f: () => fullScreen(watch.video),
    c: caption,
    i: () => pictureInPicture(watch),
    '/': write,
  };
  return actions[key.length === 1 ? key.toLowerCase() : key];
}

/** Not while somebody writes, or is at a control that has a use for the key. */
function isTaken({ target, key }: KeyboardEvent): boolean {
  if (!(target instanceof Element)) return false;
  if (target.closest('input:not([type=checkbox], [type=radio]), textarea, select, dialog')) return true;
  const presses = key === ' ' && target.closest('button, a, summary, input');
  const chooses = key.startsWith('Arrow') && target.closest('input');
  return Boolean(presses || chooses);
}

export function useKeys(watch: Watch | undefined, doing: Doing): void {
  useEffect(() => {
    if (!watch) return;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTaken(event)) return;
      const action = actionOf(event.key, watch, doing);
      if (!action) return;
      event.preventDefault();
      action();
    };
    document.addEventListener('keydown', press);
    return () => document.removeEventListener('keydown', press);
  });
}
