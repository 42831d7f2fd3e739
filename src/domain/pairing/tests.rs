//! The conversation from beginning to end, and what becomes of it when something is amiss.
