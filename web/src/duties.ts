// The hub's words for what can be done, in plain ones.

import { humanise } from "./controls.ts";

const WORDS: Record<string, string> = {
  // To the hub.
  claim_device: "claim a device by the code on its label",
  link_apps: "let apps act with a part of their rights",
  see_all_devices: "see that each device exists, whoever it belongs to",
  suspend_device: "suspend and resume devices, and lift a quarantine",
  add_people: "make accounts",
  manage_people: "invite people, change roles, reset passwords, end accounts",
  read_audit: "read who did what",
  read_metrics: "read measurements of the hub",
  manage_registry: "decide which makers to trust",
  import_identities: "take in batches and vouchers of makers",
  manage_access: "make services, open support sessions, change settings",
  // To a device.
  view: "see what it reports",
  operate: "set and use what is not critical",
  operate_critical: "set and use what is critical, such as opening a door",
  manage: "change its name and room",
  administer: "share it, take rights away, remove it",
  // What a service is for.
  create_users: "make accounts of members and guests",
};

export function actionWords(action: string): string {
  return WORDS[action] ?? humanise(action).toLowerCase();
}
