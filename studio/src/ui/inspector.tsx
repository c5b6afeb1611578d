import type { ModelFacts } from '@longlive/client';
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { fileName, named } from '../lib/names';
import { timelineText } from '../lib/timeline-files';
import type { Watch, WatchState } from '../lib/watch';
import { clock, size, span } from './format';
import { KEYS } from './keys';
import type { Playback } from './playback';

interface Props {
  watch: Watch;
  state: WatchState;
  playback: Playback;
  models: readonly ModelFacts[];
  children: ComponentChildren;
}

/** What the session is made with, its numbers, its files. */
export function Inspector({ watch, state, playback, models, children }: Props) {
  const { facts } = state;
  const model = models.find(({ name }) => name === facts.modelName);
  const rows: [string, ComponentChildren][] = [
    ['Model', model ? `${model.title} · ${model.device} · ${model.precision}` : facts.modelName],
    ...facts.loras.map(({ name, weight }): [string, string] => ['Adapter', `${name} ${weight}`]),
    ['Seed', <code>{facts.seed}</code>],
    ['Size', `${facts.width} × ${facts.height}, ${facts.fps} fps`],
    ['Length', facts.maxSeconds === null ? 'endless' : `${clock(facts.maxSeconds)} at most`],
  ];
  return (
    <aside class="inspector" aria-label="Details">
      {children}
      <h2>Made with</h2>
      <Facts rows={rows} />
      <h2>Numbers</h2>
      <Facts rows={numbers(state, playback)} />
      <Files watch={watch} state={state} />
      <details class="keys">
        <summary>Keys</summary>
        <Facts rows={KEYS.map(([keys, what]): [string, string] => [keys, what])} />
      </details>
    </aside>
  );
}

function numbers({ figures, prompts, seconds }: WatchState, { time, stats }: Playback): [string, string][] {
  const last = prompts.findLast(({ seenMilliseconds }) => seenMilliseconds !== undefined);
  return [
    ['Position', `${clock(time)} / ${clock(seconds)}`],
    ['Behind the newest', `${stats.latencySeconds.toFixed(1)} s`],
    ['Here to play', `${stats.bufferedSeconds.toFixed(1)} s`],
    ['First picture', span(figures.firstPictureMilliseconds)],
    ['Last switch', span(last?.seenMilliseconds)],
    ['Speed', figures.speed === undefined ? '–' : `${figures.speed.toFixed(1)}× real time`],
    ['Stalls', stats.stalls === 0 ? 'none' : `${stats.stalls}, ${stats.stalledSeconds.toFixed(1)} s`],
    ['Chunk', figures.chunkKilobytes === undefined ? '–' : `${Math.round(figures.chunkKilobytes)} KB`],
  ];
}

function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl>
      {rows.map(([name, value], index) => (
        <div key={index}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Files({ watch, state }: { watch: Watch; state: WatchState }) {
  const { facts, state: now, prompts } = state;
  const [progress, setProgress] = useState<string>();
  const video = facts.artifacts.find(({ kind }) => kind === 'MP4');
  const name = fileName(facts.title ?? prompts[0]?.prompt ?? facts.prompt, facts.id);
  const make = async () => {
    setProgress('Making the video…');
    const onProgress = (share: number) => setProgress(`Making the video: ${Math.round(share * 100)} %`);
    await watch.session.save(`${name}.mp4`, { onProgress }).then(
      () => setProgress(undefined),
      (error: Error) => setProgress(error.message),
    );
  };
  return (
    <>
      <h2>Files</h2>
      <div class="files">
        {video ? (
          <a class="button primary" href={named(video.url, `${name}.mp4`)} download={`${name}.mp4`}>
            Download · {size(video.bytes)}
          </a>
        ) : (
          state.seconds > 0 && (
            <button onClick={() => void make()}>{now.status === 'ended' ? 'Make the video' : 'Download so far'}</button>
          )
        )}
        <a class="button" href={facts.playlistUrl} title="For players that know HLS" download={`${name}.m3u8`}>
          HLS
        </a>
        <a
          class="button"
          href={`data:application/json;charset=utf-8,${encodeURIComponent(timelineText(facts, prompts))}`}
          download={`${name}.json`}
          title="The prompts, when each took effect, seed and size: to be opened on the start page"
        >
          Timeline
        </a>
      </div>
      {progress && (
        <p class="muted" role="status">
          {progress}
        </p>
      )}
    </>
  );
}
