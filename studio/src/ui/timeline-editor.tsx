import { useRef } from 'preact/hooks';
import type { Entry } from '../lib/timeline-files';

interface Props {
  entries: readonly Entry[];
  onChange: (entries: readonly Entry[]) => void;
  onFile: (file: File) => void;
}

/** The prompts of the next session, each from its moment on. */
export function TimelineEditor({ entries, onChange, onFile }: Props) {
  const picker = useRef<HTMLInputElement>(null);
  const change = (index: number, part: Partial<Entry>) =>
    onChange(entries.map((entry, place) => (place === index ? { ...entry, ...part } : entry)));
  const last = entries.at(-1);
  return (
    <fieldset class="story-editor">
      <legend>Timeline</legend>
      {entries.map((entry, index) => (
        <div class="entry" key={index}>
          <input
            type="number"
            aria-label={`Start of prompt ${index + 1}, in seconds`}
            min={0}
            step="0.25"
            disabled={index === 0}
            value={entry.atSeconds}
            onChange={(event) => change(index, { atSeconds: Math.max(0, Number(event.currentTarget.value) || 0) })}
          />
          <input
            aria-label={`Prompt ${index + 1}`}
            value={entry.prompt}
            onInput={(event) => change(index, { prompt: event.currentTarget.value })}
          />
          <button
            class="plain"
            type="button"
            aria-label={`Remove prompt ${index + 1}`}
            onClick={() => onChange(entries.filter((_, place) => place !== index))}
          >
            ✕
          </button>
        </div>
      ))}
      <div class="buttons">
        <button
          type="button"
          onClick={() => onChange([...entries, { atSeconds: (last?.atSeconds ?? -6) + 6, prompt: '' }])}
        >
          Add a prompt
        </button>
        <button type="button" onClick={() => picker.current?.click()}>
          Open a file
        </button>
        {entries.length > 0 && (
          <button type="button" onClick={() => onChange([])}>
            Clear
          </button>
        )}
      </div>
      <input
        ref={picker}
        type="file"
        hidden
        accept=".json,.jsonl,.ndjson,application/json"
        aria-label="Timeline file"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) onFile(file);
          event.currentTarget.value = '';
        }}
      />
    </fieldset>
  );
}
