import type { Session } from '@longlive/client';
import { useEffect, useState } from 'preact/hooks';
import { type Branch, familyOf } from '../lib/family';
import { go } from '../lib/route';
import { Stills } from '../lib/stills';
import { clock } from './format';

const AGAIN_MS = 10_000;

/** The tree of sessions that branched off from each other, with the one on the screen in it. */
export function Branches({ session }: { session: Session }) {
  const tree = useFamily(session);
  return (
    <nav class="branches" aria-label="Branches">
      <h2>Branches</h2>
      {tree ? (
        <ul>
          <Twig branch={tree} here={session.id} />
        </ul>
      ) : (
        <p class="muted">None yet. Branch goes on from the picture that you see, in a session of its own.</p>
      )}
    </nav>
  );
}

function Twig({ branch: { session, children }, here }: { branch: Branch; here: string }) {
  const { id, facts } = session;
  const current = id === here;
  return (
    <li>
      <div class={current ? 'twig current' : 'twig'}>
        <button aria-current={current ? 'page' : undefined} onClick={() => !current && go({ session: id })}>
          <Picture session={session} />
          <span>{facts.prompt}</span>
          <small>
            {clock(facts.seconds)} · {facts.state.toLowerCase()}
          </small>
        </button>
        {!current && (
          <button class="plain" onClick={() => go({ session: here, compare: id })}>
            Compare
          </button>
        )}
      </div>
      {children.length > 0 && (
        <ul>
          {children.map((child) => (
            <Twig key={child.session.id} branch={child} here={here} />
          ))}
        </ul>
      )}
    </li>
  );
}

/** Of its newest scene. */
export function Picture({ session, at }: { session: Session; at?: number }) {
  const [url, setUrl] = useState<string>();
  const { seconds } = session.facts;
  const place = at ?? Math.max(0, seconds - 0.1);
  useEffect(() => {
    if (seconds === 0) return;
    const closing = new AbortController();
    void new Stills(session, closing.signal).at(place).then((made) => !closing.signal.aborted && setUrl(made));
    return () => closing.abort();
  }, [session.id, Math.round(place)]);
  return <span class="poster">{url && <img src={url} alt="" />}</span>;
}

function useFamily(session: Session): Branch | undefined {
  const [tree, setTree] = useState<Branch>();
  useEffect(() => {
    const closing = new AbortController();
    const look = () =>
      familyOf(session, closing.signal).then(
        (found) => !closing.signal.aborted && setTree(found),
        () => undefined,
      );
    void look();
    const timer = setInterval(() => void look(), AGAIN_MS);
    return () => {
      clearInterval(timer);
      closing.abort();
    };
  }, [session.id]);
  return tree;
}
