// Why something was refused, or how it ended, in plain words: the hub's own words are for programs.

const REASONS: Record<string, string> = {
  // Signing in, of devices and of people over MQTT.
  wrong_tag: "It could not prove that it has the key its maker gave it.",
  wrong_credential: "It showed a key that is not, or is no longer, its own.",
  replayed_token: "It showed a proof that had been used before. Somebody may have copied it.",
  unknown_identity: "No maker that this hub trusts has told of a device with this name.",
  unknown_certificate: "Its certificate was not issued by this hub, or has ended.",
  malformed_id: "No device can have this name.",
  no_credential: "It showed no proof of who it is.",
  no_session: "It was not signed in as the person it named.",
  suspended: "An owner has suspended it.",
  quarantined: "It is quarantined because two things act as it. An owner has to look at it.",
  // People.
  wrong_code: "The code was not right.",
  wrong_password: "The user name or the password was not right.",
  bound_elsewhere: "The device belongs to somebody already. It has to be removed before it can be claimed again.",
  shut_out: "The device is shut out of this hub.",
  no_voucher: "No maker that this hub trusts has told of the device, and it brought no voucher.",
  wrong_voucher: "The voucher that the device brought does not hold.",
  not_its_topic: "It may only use its own topics.",
  wrong_second_factor: "The code of the second factor was not right.",
  second_factor_required: "The second factor was missing.",
  other_network: "It came from a network that is not on the list.",
  network_not_listed: "It came from a network that is not on the list.",
  // Rights to a device.
  account_ended: "The account has ended.",
  not_claimed: "Nobody has claimed the device.",
  not_bound: "The device is not shared with them.",
  revoked: "Their right to the device was revoked.",
  not_yet: "Their right to the device begins later.",
  expired: "Their right to the device has ended.",
  outside_window: "Their right to the device holds at other times of the week.",
  time_unknown: "Their right holds for a time, and the hub did not know what time it was.",
  not_covered: "Their right is to other functions of the device.",
  used_up: "All the uses of their right were spent.",
  person_may_not: "The app may, but not the person it acts for.",
  behind: "What the device runs is not safe any more: it can only be updated.",
  not_attested: "It can hurt, and the device has not proved that it is genuine.",
  // From outside.
  no_consent: "No owner has agreed that this may come from outside.",
  no_away_key: "They had no key for use from away. They make one at home.",
  unknown_person: "Nobody here is meant by that name.",
  too_late: "It came too late to be done.",
  mark_too_far: "It would have ended rights that nobody has given yet. If it happens again, ask the operator of the cloud, or unlink it.",
  last_administrator: "Nobody would be left who administers the device. Take the right away at home, or give it to somebody else first.",
  last_owner: "It is the last owner of this home.",
  only_at_home: "Only people at home remove devices.",
  malformed: "It named nothing that could be taken away.",
  policy_stale: "The hub had not heard for too long whether this right, which was given from outside, still stands.",
  review_pending: "The hub has taken another's place, and it is not known yet what was revoked since.",
  privilege_too_low: "Their right to the device does not go that far.",
};

export function explain(reason: string | null): string {
  return REASONS[reason ?? ""] ?? "";
}

/** The hub writes down a flood of one refusal once a minute, with how many there were. */
export function countedBefore(detail: string): string {
  const more = /\((\d+) more like it in the minute before\)/.exec(detail)?.[1];
  return more ? `It was tried ${more} more time${more === "1" ? "" : "s"} in the minute before.` : "";
}
