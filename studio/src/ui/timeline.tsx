import type { Scene, WatchState } from '../lib/watching';
import { clock } from './format';

/** A running session shows so much of its recent past; a finished one all of it. */
const WINDOW_SECONDS = 180;
const LEAST_SECONDS = 12;

interface Props {
  state: WatchState;
  time: number;
  onSeek: (seconds: number) => void;
}

/** The part of a prompt's band in which it still comes. */
function Coming({ share }: { share: number }) {
  return share > 0 ? <i class="coming" style={{ width: `${share * 100}%` }} /> : null;
}

function comingShare({ seconds, wholeSeconds }: Scene, end: number): number {
  if (seconds === undefined || wholeSeconds === undefined || end <= seconds) return 0;
  return Math.min(1, (wholeSeconds - seconds) / (end - seconds));
}

/** Prompts over time: one band per prompt from the moment it took effect, the playhead, and what is on its way. */
export function Timeline({ state, time, onSeek }: Props) {
  const start = state.over ? 0 : Math.max(0, state.seconds - WINDOW_SECONDS);
  const length = Math.max(state.over ? 1 : LEAST_SECONDS, state.seconds - start);
  const percent = (seconds: number) => Math.min(100, Math.max(0, ((seconds - start) / length) * 100));
  const applied = state.scenes.filter(
    (scene): scene is typeof scene & { seconds: number } => scene.seconds !== undefined,
  );
  const pending = state.scenes.filter(({ seconds }) => seconds === undefined);
  const seek = (event: MouseEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    onSeek(start + ((event.clientX - box.left) / box.width) * length);
  };
  return (
    <section class="timeline" aria-label="Timeline">
      <div class="track" onClick={seek}>
        {applied.map((scene, index) => {
          const left = percent(scene.seconds);
          const right = percent(applied[index + 1]?.seconds ?? state.seconds);
          return (
            <div
              key={scene.receiptId}
              class={`band hue${index % 6}`}
              style={{ left: `${left}%`, width: `${Math.max(0, right - left)}%` }}
              title={`${clock(scene.seconds)}  ${scene.prompt}`}
            >
              <Coming share={comingShare(scene, applied[index + 1]?.seconds ?? state.seconds)} />
              <span>{scene.prompt}</span>
            </div>
          );
        })}
        <div class="playhead" style={{ left: `${percent(time)}%` }} />
      </div>
      <div class="scale">
        <span>{clock(start)}</span>
        {pending.map(({ receiptId, prompt }) => (
          <span key={receiptId} class="arriving">
            {prompt}
          </span>
        ))}
        <span>{clock(start + length)}</span>
      </div>
    </section>
  );
}
