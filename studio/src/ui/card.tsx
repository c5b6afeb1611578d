import type { Session } from '@longlive/client';
import { useEffect, useRef, useState } from 'preact/hooks';
import { withToken } from '../lib/live';
import { go } from '../lib/route';
import { problemOf } from '../lib/words';
import { Picture } from './branches';
import { Confirm } from './confirm';
import { clock } from './format';
import { Icon } from './icons';

const LONGEST_TITLE = 200;

interface Props {
  session: Session;
  onRemix: () => void;
  onGone: () => void;
  onUnstarred: () => void;
}

/** A title, and a picture that belongs to it: of the first prompt when it has ended, else of the one that is shown now. */
export function Card({ session, onRemix, onGone, onUnstarred }: Props) {
  const { facts } = session;
  const [asked, setAsked] = useState(false);
  const [naming, setNaming] = useState(false);
  const [label, setLabel] = useState({ title: facts.title, favourite: facts.favourite });
  useEffect(() => setLabel({ title: facts.title, favourite: facts.favourite }), [facts.title, facts.favourite]);
  const [problem, setProblem] = useState<string>();
  const prompt = useFirstPrompt(session);
  const title = label.title ?? prompt;
  const attempt = async (work: () => Promise<void>) => {
    try {
      await withToken(work);
      setProblem(undefined);
      return true;
    } catch (error) {
      setProblem(problemOf(error).text);
      return false;
    }
  };
  const remove = async () => {
    setAsked(false);
    if (await attempt(() => session.delete())) onGone();
  };
  /** Shown at once, and taken back where the service does not take it. */
  const say = async (changes: Partial<typeof label>) => {
    const before = label;
    setLabel({ ...label, ...changes });
    if (!(await attempt(() => session.update(changes)))) return setLabel(before);
    setLabel({ title: session.facts.title, favourite: session.facts.favourite });
    if (changes.favourite === false) onUnstarred();
  };
  return (
    <li class="card">
      <button class="open" onClick={() => go({ session: session.id })}>
        {title ? <CardPicture session={session} /> : <span class="poster" />}
        {!naming && <p>{title ?? '…'}</p>}
        {!naming && (
          <small>
            {facts.ended ? clock(facts.seconds) : `${clock(facts.seconds)} · ${facts.state.toLowerCase()}`} ·{' '}
            {facts.modelName}
          </small>
        )}
      </button>
      {naming && (
        <Naming
          title={label.title ?? ''}
          placeholder={prompt ?? ''}
          onNamed={(title) => void say({ title })}
          onDone={() => setNaming(false)}
        />
      )}
      <div class="buttons">
        <button
          class="plain star"
          aria-pressed={label.favourite}
          aria-label={`Favourite: ${title ?? 'this session'}`}
          title="Favourite"
          onClick={() => void say({ favourite: !label.favourite })}
        >
          <Icon name="star" filled={label.favourite} />
        </button>
        <button class="plain" onClick={() => setNaming(true)}>
          Rename
        </button>
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

interface NamingProps {
  title: string;
  /** What it is called without a title. */
  placeholder: string;
  onNamed: (title: string) => void;
  onDone: () => void;
}

/** Enter, or going elsewhere, takes the title; Escape leaves the one that it had. */
function Naming({ title, placeholder, onNamed, onDone }: NamingProps) {
  const field = useRef<HTMLInputElement>(null);
  const over = useRef(false);
  useEffect(() => field.current?.select(), []);
  const end = (taken: string | undefined) => {
    if (over.current) return;
    over.current = true;
    if (taken !== undefined && taken !== title) onNamed(taken);
    onDone();
  };
  return (
    <input
      ref={field}
      class="naming"
      aria-label="Title"
      maxLength={LONGEST_TITLE}
      placeholder={placeholder}
      defaultValue={title}
      onBlur={(event) => end(event.currentTarget.value.trim())}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key === 'Enter') end(event.currentTarget.value.trim());
        if (event.key === 'Escape') end(undefined);
      }}
    />
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
function useFirstPrompt(session: Session): string | undefined {
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
