import type { ListOptions, Session } from '@longlive/client';
import { useEffect, useRef, useState } from 'preact/hooks';
import { live, withToken } from '../lib/live';
import { problemOf } from '../lib/words';
import { Card } from './card';

const PAGE = 12;
const AGAIN_MS = 10_000;
/** Behind the last letter typed. */
const SEARCH_MS = 300;
const LONGEST_SEARCH = 200;

interface Props {
  onRemix: (session: Session) => void;
}

/** The sessions that there are, the newest first; all of them, or those that are searched for. */
export function Gallery({ onRemix }: Props) {
  const [typed, setTyped] = useState('');
  const [favourites, setFavourites] = useState(false);
  const search = useSettled(typed.trim());
  const { sessions, next, problem, more, drop, looking } = useSessions(search, favourites);
  const wanted = search !== '' || favourites;
  if (sessions.length === 0 && !problem && !wanted && typed === '') return null;
  return (
    <section class="recent" aria-label="Recent sessions">
      <div class="head">
        <h2>Recent</h2>
        <button class="plain" aria-pressed={favourites} onClick={() => setFavourites(!favourites)}>
          Favourites
        </button>
        <input
          type="search"
          aria-label="Search the sessions"
          placeholder="Title or prompt"
          maxLength={LONGEST_SEARCH}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <ul>
        {sessions.map((session) => (
          <Card
            key={session.id}
            session={session}
            onRemix={() => onRemix(session)}
            onGone={() => drop(session.id)}
            onUnstarred={() => favourites && drop(session.id)}
          />
        ))}
      </ul>
      {wanted && sessions.length === 0 && !problem && (
        <p class="muted" role="status">
          {nothing(looking, search, next !== undefined)}
        </p>
      )}
      {next && <button onClick={() => void more()}>{wanted ? 'Look further back' : 'Show more'}</button>}
    </section>
  );
}

function nothing(looking: boolean, search: string, more: boolean): string {
  if (looking) return 'Looking…';
  if (more) return 'None of the newest ones. There are older ones.';
  return search === '' ? 'No favourites yet: the star of a session makes it one.' : 'No session has these words.';
}

/** What was typed, once the typing rests. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SEARCH_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

function useSessions(search: string, favourites: boolean) {
  const [sessions, setSessions] = useState<readonly Session[]>([]);
  const [next, setNext] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const [looking, setLooking] = useState(true);
  /** Of the newest search: what an earlier one brings comes too late. */
  const current = useRef(0);
  const filter = { ...(search !== '' && { search }), ...(favourites && { favourite: true }) };
  const read = async (more: ListOptions = {}) => {
    const mine = current.current;
    try {
      const page = await withToken(() => live.sessions({ first: PAGE, ...filter, ...more }));
      if (mine !== current.current) return undefined;
      setProblem(undefined);
      return page;
    } catch (error) {
      if (mine === current.current) setProblem(problemOf(error).text);
      return undefined;
    }
  };
  useEffect(() => {
    const mine = ++current.current;
    const isFirst = () => mine === current.current;
    const look = async (begin: boolean) => {
      const page = await read();
      if (isFirst()) setLooking(false);
      if (!page) return;
      setSessions((before) => (begin ? page.sessions : merged(page.sessions, before)));
      setNext((before) => (begin ? page.next : (before ?? page.next)));
    };
    setLooking(true);
    void look(true);
    const timer = setInterval(() => document.visibilityState === 'visible' && void look(false), AGAIN_MS);
    return () => {
      current.current++;
      clearInterval(timer);
    };
  }, [search, favourites]);
  const more = async () => {
    const page = await read(next === undefined ? {} : { after: next });
    if (!page) return;
    setSessions((before) => merged(before, page.sessions));
    setNext(page.next);
  };
  const drop = (id: string) => setSessions((before) => before.filter((each) => each.id !== id));
  return { sessions, next, problem, more, drop, looking };
}

/** Each once, as the first list has it. */
function merged(first: readonly Session[], second: readonly Session[]): readonly Session[] {
  const known = new Set(first.map(({ id }) => id));
  return [...first, ...second.filter(({ id }) => !known.has(id))];
}
