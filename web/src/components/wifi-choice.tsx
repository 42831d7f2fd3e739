// Which Wi-Fi a device gets: none, the one the hub is in, or one that is typed.

import { passphraseError, ssidError, type WifiDraft } from "../pairing.ts";
import { me } from "../store.ts";
import type { Radio } from "../types.ts";
import { PasswordField, TextField } from "./field.tsx";

interface WifiChoiceProps {
  radio: Radio | null;
  value: WifiDraft;
  onChange: (value: WifiDraft) => void;
  tried: boolean;
  /** Whether it may go without. */
  none: boolean;
}

export function WifiChoice({ radio, value, onChange, tried, none }: WifiChoiceProps) {
  const own = radio?.wifi;
  const offered: [WifiDraft["use"], string, string][] = [
    ...(own?.system && own.allowed ? [["system", own.ssid ? `This hub's Wi-Fi, “${own.ssid}”` : "This hub's Wi-Fi", "The hub sends its passphrase; nobody has to type it."] as [WifiDraft["use"], string, string]] : []),
    ["given", own?.system && own.allowed ? "Another Wi-Fi" : "A Wi-Fi", "Type its name and passphrase. The hub does not keep them."],
    ...(none ? [["none", "None", "It has a cable, or is in a network already."] as [WifiDraft["use"], string, string]] : []),
  ];
  return (
    <>
      <fieldset class="choices">
        <legend>Which Wi-Fi</legend>
        {offered.map(([use, label, means]) => (
          <label key={use}>
            <input type="radio" name="wifi" checked={value.use === use} onChange={() => onChange({ ...value, use })} />
            <span><strong>{label}</strong><span class="quiet">{means}</span></span>
          </label>
        ))}
      </fieldset>
      {own?.system && !own.allowed && (
        <p class="hint">
          {me.value?.role === "owner" ? <>The hub could give its own Wi-Fi. <a href="#/hub">Allow that in the settings</a>.</> : "The hub could give its own Wi-Fi, if an owner allowed it in the settings."}
        </p>
      )}
      {value.use === "given" && (
        <div class="given">
          <TextField label="Name of the Wi-Fi" name="ssid" exact maxLength={32} value={value.ssid} onText={(ssid) => onChange({ ...value, ssid })} error={tried ? ssidError(value) : ""} hint="Exactly as it is, with capitals and spaces. Most devices need 2.4 GHz." />
          <PasswordField label="Passphrase" name="passphrase" value={value.passphrase} onText={(passphrase) => onChange({ ...value, passphrase })} error={tried ? passphraseError(value) : ""} hint="Empty for an open Wi-Fi." />
        </div>
      )}
    </>
  );
}
