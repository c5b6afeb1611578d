import { useEffect, useState } from 'preact/hooks';
import { fetchRecent, type ModelGuide, type Session } from '../lib/api';
import { clock } from './format';

interface Props {
  /** Of the model that is chosen. */
  guide: ModelGuide | null;
  onOpen: (id: string) => void;
  onPrompt: (prompt: string) => void;
}

/** What to start from: what the model can draw, and the sessions there are. */
export function Home({ guide, onOpen, onPrompt }: Props) {
  const [recent, setRecent] = useState<Session[]>([]);
  useEffect(() => void fetchRecent().then(setRecent, () => undefined), []);
  return (
    <>
      {guide && (
        <section aria-label="What this model can draw">
          <div class="ideas">
            {guide.examples.map((example) => (
              <button key={example} onClick={() => onPrompt(example)}>
                {example}
              </button>
            ))}
          </div>
          <p class="about">{guide.about}</p>
        </section>
      )}
      {recent.length > 0 && (
        <section class="recent" aria-label="Recent sessions">
          <h2>Recent</h2>
          <div>
            {recent.map((session) => (
              <button key={session.id} onClick={() => onOpen(session.id)}>
                <Poster session={session} />
                <p>{session.prompt}</p>
                <small>
                  {session.finishedAt ? clock(session.seconds) : session.state.toLowerCase()} · {session.modelName}
                </small>
              </button>
            ))}
          </div>
        </section>
      )}
    </>
  );
}

function Poster({ session }: { session: Session }) {
  const poster = session.artifacts.find(({ kind }) => kind === 'POSTER');
  return <div class="poster">{poster && <img src={poster.url} alt="" loading="lazy" />}</div>;
}
