export type Sheet = 'branches' | 'details' | 'timeline';

const NAMES: readonly (readonly [Sheet, string])[] = [
  ['branches', 'Branches'],
  ['timeline', 'Timeline'],
  ['details', 'Details'],
];

/** On small screens: what is beside the picture elsewhere, one at a time. */
export function Sheets({ sheet, onSheet }: { sheet: Sheet | undefined; onSheet: (sheet: Sheet | undefined) => void }) {
  return (
    <div class="sheets">
      {NAMES.map(([each, name]) => (
        <button key={each} aria-pressed={sheet === each} onClick={() => onSheet(sheet === each ? undefined : each)}>
          {name}
        </button>
      ))}
    </div>
  );
}
