/** One person on one phone: what the app keeps and calls. */

import { Api, tokensOf } from './api.js'
import { stamp } from './dates.js'
import { Socket } from './socket.js'
import { Store } from './store.js'
import { likeKey, messageKey, wire } from './wire.js'

/**
 * @typedef {object} Post
 * @property {string} nickname
 * @property {string} weather
 * @property {number} date
 * @property {number} happiness
 * @property {string} text
 * @property {string[]} categoryList
 * @property {(number | string)[]} imageIdList
 * @property {boolean} [isPublic] own posts only
 * @property {string[]} [likeNicknameList] own posts only
 * @property {boolean} [isLiked] others' posts only
 */

/**
 * @typedef {object} Message
 * @property {string} sender
 * @property {string} receiver
 * @property {number} date
 * @property {string} text
 * @property {number} [number] in the conversation; of frames
 * @property {number} [seq] in the stream of the account; of frames
 * @property {string} [id] of the frame that sends it
 * @property {'sending' | 'stored' | 'refused'} [state] of one's own message in this session
 */

/** @typedef {{ topic: string, who: string, date?: number }} Notice */
/** Up to which number the other person's devices have shown one's messages, and the person has read them. @typedef {{ delivered?: number, read?: number }} Marks */

/** Milliseconds until a frame that was given up is sent again. */
const AGAIN = 1_000

const hex = (/** @type {ArrayBuffer} */ bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')
const random = (/** @type {number} */ bytes) => hex(crypto.getRandomValues(new Uint8Array(bytes)).buffer)

/** The state of a phone and the operations of the app. */
export class Session extends Store {
  /** @param {number} phone the number of the phone */
  constructor(phone) {
    super()
    this.phone = phone
    this.api = new Api(phone)
    this.api.expired = () => this.end()
    this.nickname = ''
    this.account = ''
    this.online = false
    /** @type {Notice[]} newest first */
    this.notices = []
    this.unread = { notices: 0, messages: 0 }
    /** Frames of this session, newest last. @type {Message[]} */
    this.messages = []
    /** Frames of messages that are not answered, by their ids. @type {Map<string, any>} */
    this.unanswered = new Map()
    /** By nickname. @type {Map<string, Marks>} */
    this.marks = new Map()
    /** Up to which frame each person's messages are reported as read. @type {Map<string, number>} */
    this.reported = new Map()
    /** Profile photos by nickname. @type {Map<string, Promise<string | null>>} */
    this.photos = new Map()
    /** @type {Socket[]} */
    this.sockets = []
  }

  /** Challenge, authorize code, sign-in. @param {string} email @param {string} provider */
  async signIn(email, provider) {
    const verifier = random(10)
    const digest = await crypto.subtle.digest('SHA-512', new TextEncoder().encode(verifier))
    const { body } = await this.api.open('/auth-service/getAuthorizeCode', { codeChallenge: hex(digest) })
    const signedIn = await this.api.open('/auth-service/signIn', {
      email,
      provider,
      providerId: `${provider}-${email}`,
      codeVerifier: verifier,
      authorizeCode: body.authorizeCode,
      authorizationCode: '',
      deviceToken: `browser-${email}`,
    })
    this.api.tokens = tokensOf(signedIn.headers)
    this.account = this.api.tokens.account
    this.nickname = signedIn.body.nickname
    if (this.nickname) this.connect()
    this.changed()
  }

  /** @param {string} nickname @param {string} introduction @param {Blob | null} photo */
  async setProfile(nickname, introduction, photo) {
    const fields = { email: this.account, nickname, introduction, ...(photo ? { profileImg: photo } : {}) }
    const done = await this.api.post('/auth-service/setProfile', fields)
    if (!done.success) return false
    this.nickname = nickname
    this.photos.delete(nickname)
    this.connect()
    this.changed()
    return true
  }

  /** Opens both sockets under the current nickname. */
  connect() {
    for (const socket of this.sockets) socket.close()
    const report = () => {
      this.online = this.sockets.every((socket) => socket.socket?.readyState === WebSocket.OPEN)
      this.changed()
    }
    const sendAgain = (/** @type {boolean} */ online) => {
      if (online) for (const frame of this.unanswered.values()) this.sockets[0].send(frame)
      report()
    }
    this.sockets = [
      new Socket(this.api, '/dm-service/connect-dm', this.nickname, (frame) => this.receiveMessage(frame), sendAgain),
      new Socket(this.api, '/notice-service/connect-notice', this.nickname, (frame) => this.receiveNotice(frame), report),
    ]
  }

  /** @param {{ topic: string, id?: string, seq?: number, data: any }} frame */
  receiveMessage({ topic, id, seq, data }) {
    if (topic === 'accepted' || topic === 'rejected' || topic === 'error') this.answered(topic, id)
    if (topic === 'receipt' && data.sender === this.nickname) {
      const marks = this.marks.get(data.reader)
      this.marks.set(data.reader, { ...marks, [data.state]: Math.max(data.number, marks?.[/** @type {keyof Marks} */ (data.state)] ?? 0) })
      this.changed()
    }
    if (topic !== 'message' || data.roomId) return undefined
    const { sender, receiver, date, text, number } = data
    /** @type {Message} */
    const message = { sender, receiver, date, text, number, seq }
    const key = messageKey(message)
    const known = this.messages.find((one) => messageKey(one) === key)
    this.messages = known ? this.messages.map((one) => (one === known ? { ...one, number, seq } : one)) : [...this.messages, message]
    if (sender === this.nickname) {
      // One's own messages come on each of one's devices.
      this.changed()
      return undefined
    }
    if (!known) this.unread.messages += 1
    const tap = wire.arrived('message', key)
    this.changed()
    return { tap, key }
  }

  /** Handles the answer to a frame of a message. @param {string} topic @param {string | undefined} id */
  answered(topic, id) {
    const frame = this.unanswered.get(id ?? '')
    if (!frame) return
    if (topic === 'error') {
      setTimeout(() => this.unanswered.has(frame.id) && this.sockets[0]?.send(frame), AGAIN)
      return
    }
    this.unanswered.delete(frame.id)
    const state = topic === 'accepted' ? 'stored' : 'refused'
    this.messages = this.messages.map((one) => (one.id === frame.id ? { ...one, state } : one))
    this.changed()
  }

  /** Returns how far one's own message has come. @param {Message} message @returns {'sending' | 'stored' | 'refused' | 'delivered' | 'read' | undefined} */
  markOf({ receiver, number, state }) {
    const marks = this.marks.get(receiver)
    const isIn = (/** @type {number | undefined} */ mark) => number !== undefined && mark !== undefined && number <= mark
    if (isIn(marks?.read)) return 'read'
    return isIn(marks?.delivered) ? 'delivered' : state
  }

  /** Reports that the messages of a person were read. @param {string} other */
  readMessagesOf(other) {
    const seq = Math.max(0, ...this.messages.filter((message) => message.sender === other).map((message) => message.seq ?? 0))
    if (seq <= (this.reported.get(other) ?? 0)) return
    if (this.sockets[0]?.send({ topic: 'read', seq, data: { receiver: other } })) this.reported.set(other, seq)
  }

  /** @param {{ topic: string, data: any }} frame */
  receiveNotice({ topic, data }) {
    const who = data.liker ?? data.commenter ?? data.follower
    if (!who) return undefined
    this.notices = [{ topic, who, date: data.date }, ...this.notices]
    this.unread.notices += 1
    const key = topic === 'like' ? likeKey(who, data.date) : undefined
    const tap = key && wire.arrived('like', key)
    this.changed()
    return { tap: tap || undefined, key }
  }

  /** Marks what a screen shows as read. @param {'notices' | 'messages'} which */
  read(which) {
    if (this.unread[which] === 0) return
    this.unread[which] = 0
    this.changed()
  }

  /** Sends a message, again until it is answered. Returns it, or null while the socket is not open. @param {string} receiver @param {string} text */
  say(receiver, text) {
    const [id, date] = [random(8), stamp()]
    /** @type {Message} */
    const message = { id, sender: this.nickname, receiver, date, text, state: 'sending' }
    const frame = { topic: 'message', id, traceparent: `00-${random(16)}-${random(8)}-01`, data: { receiver, text, date } }
    wire.tapped(messageKey(message))
    if (!this.sockets[0]?.send(frame)) return null
    this.unanswered.set(id, frame)
    this.messages = [...this.messages, message]
    this.changed()
    return message
  }

  /** The messages with somebody, oldest first. @param {string} other @returns {Promise<Message[]>} */
  history(other) {
    const fields = { sender: this.nickname, receiver: other, timeBoundary: 9999123123595999, messageCnt: 50 }
    return this.api.post('/dm-service/findDirectMessage', fields)
  }

  /** The newest message of each conversation, newest first. @returns {Promise<Message[]>} */
  conversations() {
    return this.api.post('/dm-service/findMultipleDirectMessage', { sender: this.nickname })
  }

  /** Saves the post of a day. @param {Omit<Post, 'nickname' | 'imageIdList'>} post @param {Blob[]} pictures */
  savePost(post, pictures) {
    const { weather, happiness, text, date, isPublic } = post
    const fields = { nickname: this.nickname, date, weather, happiness, categoryList: post.categoryList.join(','), text, isPublic }
    const images = pictures.map((picture, index) => [`imageList[${index}]`, picture])
    return this.api.post('/feed-service/saveFeed', { ...fields, ...Object.fromEntries(images) })
  }

  /** @param {number} date @returns {Promise<Post[]>} */
  month(date) {
    return this.api.post('/feed-service/findMonthFeed', { nickname: this.nickname, date })
  }

  /** @param {number} date @returns {Promise<{ happiness: number, formattedDate: string }[]>} */
  monthHappiness(date) {
    return this.api.post('/feed-service/findMonthHappiness', { nickname: this.nickname, date })
  }

  /** @param {number} date @returns {Promise<{ bestCategoryList: string[], recommendCategoryList: string[] }>} */
  analysis(date) {
    return this.api.post('/feed-service/analysisHappiness', { nickname: this.nickname, date })
  }

  /** The first page of others' public posts. @returns {Promise<Post[]>} */
  async others() {
    return (await this.api.get('/feed-service/findOtherFeed', { nickname: this.nickname, page: 0, size: 25 })).content
  }

  /** Likes a post or takes the like back. Returns whether it is liked now. @param {Post} post @returns {Promise<boolean>} */
  async like(post) {
    if (!post.isLiked) wire.tapped(likeKey(this.nickname, post.date))
    return (await this.api.post('/feed-service/updateLike', this.named(post))).like
  }

  /** The names of a post in calls of others. @param {Post} post */
  named(post) {
    return { srcNickname: this.nickname, nickname: post.nickname, date: post.date }
  }

  /** Saves a post for oneself, or no longer. Returns whether it is saved now. @param {Post} post @returns {Promise<boolean>} */
  async bookmark(post) {
    return (await this.api.post('/feed-service/updateBookmark', this.named(post))).bookmark
  }

  /** The newest saved posts. @returns {Promise<Post[]>} */
  async bookmarks() {
    return (await this.api.get('/feed-service/findBookmark', { nickname: this.nickname })).content
  }

  /** @param {Post} post @returns {Promise<{ commentId: number, nickname: string, text: string }[]>} */
  async comments(post) {
    return (await this.api.get('/feed-service/findComment', this.named(post))).content
  }

  /** @param {Post} post @param {string} text */
  comment(post, text) {
    return this.api.post('/feed-service/saveComment', { ...this.named(post), text })
  }

  /** The nicknames of the people whom this one follows, the newest first. @returns {Promise<string[]>} */
  async following() {
    const { content } = await this.api.get('/auth-service/findFollowing')
    return content.map((/** @type {{ nickname: string }} */ person) => person.nickname)
  }

  /** @param {string} nickname @param {boolean} followed */
  setFollowed(nickname, followed) {
    const fields = { srcNickname: this.nickname, dstNickname: nickname }
    return this.api.post(`/auth-service/${followed ? 'follow' : 'unfollow'}`, fields)
  }

  /** @param {number} date */
  togglePublic(date) {
    return this.api.post('/feed-service/updatePublicStatus', { nickname: this.nickname, date })
  }

  /** @param {number} date */
  deletePost(date) {
    return this.api.post('/feed-service/deleteFeed', { nickname: this.nickname, date })
  }

  /** @param {string} nickname @param {boolean} blocked */
  setBlocked(nickname, blocked) {
    const fields = { srcNickname: this.nickname, dstNickname: nickname }
    return this.api.post(`/auth-service/${blocked ? 'block' : 'unblock'}`, fields)
  }

  /** The URL of somebody's photo; null when there is none. @param {string} nickname @returns {Promise<string | null>} */
  photo(nickname) {
    let photo = this.photos.get(nickname)
    if (!photo) {
      photo = this.api
        .post('/auth-service/findProfileImg', { nickname })
        .then((found) => (found.profileImg ? `data:image/png;base64,${found.profileImg}` : null))
        .catch(() => null)
      this.photos.set(nickname, photo)
    }
    return photo
  }

  /** @param {string} nickname @returns {Promise<string>} */
  async introduction(nickname) {
    return (await this.api.post('/auth-service/findIntroduction', { nickname })).introduction
  }

  async signOut() {
    await this.api.post('/auth-service/signOut', {})
    this.end()
  }

  /** Leaves for good: the account and everything of it are erased. */
  async resign() {
    await this.api.post('/auth-service/resign', { email: this.account })
    this.end()
  }

  /** Forgets the session. */
  end() {
    for (const socket of this.sockets) socket.close()
    this.api.tokens = null
    this.nickname = ''
    this.account = ''
    this.online = false
    this.notices = []
    this.unread = { notices: 0, messages: 0 }
    this.messages = []
    this.unanswered = new Map()
    this.marks = new Map()
    this.reported = new Map()
    this.photos = new Map()
    this.sockets = []
    this.changed()
  }
}

/** Returns the address of a picture, which needs no token. @param {number | string} id */
export const pictureUrl = (id) => `/feed-service/image/${id}`
