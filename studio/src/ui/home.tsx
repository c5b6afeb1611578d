import { useEffect, useState } from 'preact/hooks';
import { fetchRecent, type Session } from '../lib/api';
import { clock } from './format';

const IDEAS = [
  'a red fox runs on the grass on a sunny day',
  'a blue robot walks through snow at night',
  'a yellow bird jumps along the sand at sunset',
  'a purple dinosaur stands on the road in the rain',
];

interface Props {
  onOpen: (id: string) => void;
  onPrompt: (prompt: string) => void;
}

/** What to start from: ideas, and the sessions there are. */
export function Home({ onOpen, onPrompt }: Props) {
  const [recent, setRecent] = useState<Session[]>([]);
  useEffect(() => void fetchRecent().then(setRecent, () => undefined), []);
  return (
    <>
      <div class="ideas">
        {IDEAS.map((idea) => (
          <button key={idea} onClick={() => onPrompt(idea)}>
            {idea}
          </button>
        ))}
      </div>
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
