// On or off, as a switch.

export function Switch({ label, on, disabled, describedBy, small, onChange }: {
  label: string;
  on: boolean;
  disabled?: boolean;
  describedBy?: string;
  small?: boolean;
  onChange: (on: boolean) => void;
}) {
  return (
    <button
      type="button"
      role="switch"
      class={small ? "switch switch-small" : "switch"}
      aria-checked={on}
      aria-label={label}
      aria-describedby={describedBy}
      disabled={disabled}
      onClick={() => onChange(!on)}
    >
      <span class="switch-thumb" />
    </button>
  );
}
