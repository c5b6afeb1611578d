import type { Session } from '@longlive/client';
import { useEffect, useState } from 'preact/hooks';
import { live, withToken } from '../lib/live';
import { go } from '../lib/route';
import { problemOf } from '../lib/words';
import { Picture } from './branches';
import { Confirm } from './confirm';
import { clock } from './format';

const PAGE = 12;
const AGAIN_MS = 10_000;

interface Props {
  onRemix: (session: Session) => void;
}

/** The sessions that there are, the newest first. */
export function Gallery({ onRemix }: Props) {
  const { sessions, next, problem, more, drop } = useSessions();
  const [wanted, setWanted] = useState('');
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const found = sessions.filter(({ facts }) => words.every((word) => facts.prompt.toLowerCase().includes(word)));
  if (sessions.length === 0 && !problem) return null;
  return (
    <section class="recent" aria-label="Recent sessions">
      <div class="head">
        <h2>Recent</h2>
        <input
          type="search"
          aria-label="Search the sessions"
          placeholder="Search"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
        />
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <ul>
        {found.map((session) => (
          <Card
            key={session.id}
            session={session}
            onRemix={() => onRemix(session)}
            onDeleted={() => drop(session.id)}
          />
        ))}
      </ul>
      {words.length > 0 && found.length === 0 && <p class="muted">None of those that are shown has these words.</p>}
      {next && <button onClick={() => void more()}>Show more</button>}
    </section>
  );
}

/** A title, and a picture that belongs to it: of the first prompt when it has ended, else of the one that is shown now. */
function Card({ session, onRemix, onDeleted }: { session: Session; onRemix: () => void; onDeleted: () => void }) {
  const { facts } = session;
  const [asked, setAsked] = useState(false);
  const [problem, setProblem] = useState<string>();
  const title = useTitle(session);
  const remove = async () => {
    setAsked(false);
    try {
      await withToken(() => session.delete());
      onDeleted();
    } catch (error) {
      setProblem(problemOf(error).text);
    }
  };
  return (
    <li class="card">
      <button class="open" onClick={() => go({ session: session.id })}>
        {title && <CardPicture session={session} />}
        {!title && <span class="poster" />}
        <p>{title ?? '…'}</p>
        <small>
          {facts.ended ? clock(facts.seconds) : `${clock(facts.seconds)} · ${facts.state.toLowerCase()}`} ·{' '}
          {facts.modelName}
        </small>
      </button>
      <div class="buttons">
        <button class="plain" title="The same seed and prompts, yours to change" onClick={onRemix}>
          Remix
        </button>
        <button class="plain" onClick={() => setAsked(true)}>
          Delete
        </button>
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {asked && (
        <Confirm title="Delete this session?" yes="Delete it" onYes={() => void remove()} onNo={() => setAsked(false)}>
          <p>“{title}” and all that was made of it are gone then. Sessions that branched off from it stay whole.</p>
        </Confirm>
      )}
    </li>
  );
}

function CardPicture({ session }: { session: Session }) {
  const poster = session.facts.ended ? session.facts.artifacts.find(({ kind }) => kind === 'POSTER') : undefined;
  if (!poster) return <Picture session={session} />;
  return (
    <span class="poster">
      <img src={poster.url} alt="" loading="lazy" />
    </span>
  );
}

/** Of what has ended, the prompt that its still was made of: the first one. */
function useTitle(session: Session): string | undefined {
  const { ended, prompt } = session.facts;
  const [first, setFirst] = useState<string>();
  useEffect(() => {
    if (!ended) return;
    const closing = new AbortController();
    session.prompts({ signal: closing.signal }).then(
      (prompts) => setFirst(prompts.find(({ applied }) => applied?.block === 0)?.prompt ?? prompt),
      () => !closing.signal.aborted && setFirst(prompt),
    );
    return () => closing.abort();
  }, [session.id, ended]);
  return ended ? first : prompt;
}

function useSessions() {
  const [sessions, setSessions] = useState<readonly Session[]>([]);
  const [next, setNext] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const read = async (after?: string) => {
    try {
      const page = await withToken(() => live.sessions({ first: PAGE, ...(after !== undefined && { after }) }));
      setProblem(undefined);
      return page;
    } catch (error) {
      setProblem(problemOf(error).text);
      return undefined;
    }
  };
  useEffect(() => {
    let left = false;
    const look = async () => {
      const page = await read();
      if (!page || left) return;
      setSessions((before) => merged(page.sessions, before));
      setNext((before) => before ?? page.next);
    };
    void look();
    const timer = setInterval(() => document.visibilityState === 'visible' && void look(), AGAIN_MS);
    return () => {
      left = true;
      clearInterval(timer);
    };
  }, []);
  const more = async () => {
    const page = await read(next);
    if (!page) return;
    setSessions((before) => merged(before, page.sessions));
    setNext(page.next);
  };
  const drop = (id: string) => setSessions((before) => before.filter((each) => each.id !== id));
  return { sessions, next, problem, more, drop };
}

/** Each once, as the first list has it. */
function merged(first: readonly Session[], second: readonly Session[]): readonly Session[] {
  const known = new Set(first.map(({ id }) => id));
  return [...first, ...second.filter(({ id }) => !known.has(id))];
}
