import { useEffect, useRef, useState } from 'preact/hooks';
import { live, withToken } from '../lib/live';
import { shownAt } from '../lib/prompts';
import { go } from '../lib/route';
import { useStore } from '../lib/store';
import { Watch } from '../lib/watch';
import { problemOf } from '../lib/words';
import { clock } from './format';

const OFTEN_MS = 250;
/** Two pictures that are less apart count as in step. */
const APART_SECONDS = 0.3;
const BEFORE_SECONDS = 2;

/** Another session beside the one on the screen, at the same moment of it: it plays, stands and goes where that one goes. */
export function Compare({ watch, other: id }: { watch: Watch; other: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const [other, setOther] = useState<Watch>();
  const [problem, setProblem] = useState<string>();
  useEffect(() => {
    const closing = new AbortController();
    let made: Watch | undefined;
    const open = async () => {
      const session = await withToken(() => live.session(id, { signal: closing.signal }));
      if (closing.signal.aborted || !video.current) return;
      const from = beginAt(watch, session.facts.seconds);
      made = new Watch(session, video.current, { from });
      watch.player.seek(from);
      setOther(made);
    };
    open().catch((error: unknown) => !closing.signal.aborted && setProblem(problemOf(error).text));
    return () => {
      closing.abort();
      made?.close();
    };
  }, [id, watch]);
  useInStep(watch, other);
  return (
    <section class="stage beside" aria-label="Compared with">
      <video ref={video} muted playsInline />
      <div class="top">
        <span class="state calm">In step</span>
        <button class="pill" onClick={() => go({ session: watch.session.id })}>
          End the comparison
        </button>
      </div>
      {problem && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      {other && <Caption watch={other} />}
    </section>
  );
}

function Caption({ watch }: { watch: Watch }) {
  const { prompts, facts } = useStore(watch.store);
  const [time, setTime] = useState(0);
  useEffect(() => {
    watch.video.parentElement?.style.setProperty('--ratio', `${facts.width} / ${facts.height}`);
    const timer = setInterval(() => setTime(watch.video.currentTime), OFTEN_MS);
    return () => clearInterval(timer);
  }, [watch]);
  return (
    <p class="caption low">
      {clock(time)} · {shownAt(prompts, time)?.prompt ?? facts.prompt}
    </p>
  );
}

/** Where both have pictures, a little before the end of the shorter one. */
function beginAt(watch: Watch, seconds: number): number {
  const shorter = Math.min(watch.store.state.seconds, seconds);
  return Math.max(0, Math.min(watch.video.currentTime, shorter - BEFORE_SECONDS));
}

function useInStep(watch: Watch, other: Watch | undefined): void {
  useEffect(() => {
    if (!other) return;
    const keep = () => {
      const target = Math.min(watch.video.currentTime, other.store.state.seconds);
      const apart = Math.abs(other.video.currentTime - target);
      if (apart > (watch.video.paused ? 0.02 : APART_SECONDS) && !other.video.seeking) other.player.seek(target);
      if (watch.video.paused !== other.video.paused) {
        if (watch.video.paused) other.video.pause();
        else other.video.play().catch(() => undefined);
      }
    };
    const timer = setInterval(keep, OFTEN_MS);
    return () => clearInterval(timer);
  }, [watch, other]);
}
